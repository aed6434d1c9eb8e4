//! Compiling a kernel: `allnoconfig` plus the fragment, `olddefconfig`, a look at what survived, `vmlinux`, strip.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

use super::cache::Entry;
use super::config::Fragment;
use super::source::{parse_version, render_date, unpack};
use super::toolchain::{Toolchain, clean_command};
use super::{KernelError, KernelInputs};
use crate::command;
use crate::elf::check_kernel;
use crate::progress::{Event, Phase, Progress, phase};

/// Who built the kernel, as its version string has it: the project, not a person or a machine.
const BUILDER: &str = "plfm";
/// What `make` prints before each object it compiles.
const OBJECT_MARKS: [&str; 2] = ["CC", "AS"];

/// One kernel's compilation.
struct Compilation<'a> {
    inputs: &'a KernelInputs,
    toolchain: &'a Toolchain,
    /// The unpacked source.
    tree: &'a Path,
    log: &'a Path,
    /// The time that the build pretends it is: that of the source's own Makefile.
    time: Timestamp,
}

/// Compiles a kernel in `tree`, an empty directory.
pub(super) fn compile(
    inputs: &KernelInputs,
    fragment: &Fragment,
    toolchain: &Toolchain,
    tree: &Path,
    log: &Path,
    progress: &mut dyn Progress,
) -> Result<Entry, KernelError> {
    phase(progress, Phase::UnpackKernel, |_| {
        unpack(&inputs.source, tree, log).map_err(run_error(Phase::UnpackKernel, log))
    })?;
    let makefile = tree.join("Makefile");
    let not_source = |_| KernelError::NotKernelSource {
        path: inputs.source.clone(),
    };
    let text = fs::read_to_string(&makefile).map_err(not_source)?;
    let version = parse_version(&text)
        .ok_or_else(|| KernelError::NotKernelSource {
            path: inputs.source.clone(),
        })?
        .map_err(|source| KernelError::Version {
            path: inputs.source.clone(),
            source,
        })?;
    let time = modified(&makefile).map_err(cache_error("read the time of", &makefile))?;
    let compilation = Compilation {
        inputs,
        toolchain,
        tree,
        log,
        time,
    };
    let config = phase(progress, Phase::ConfigureKernel, |_| {
        compilation.configure(fragment)
    })?;
    let image = phase(progress, Phase::CompileKernel, |progress| {
        compilation.compile(progress)
    })?;
    check_kernel(&image).map_err(KernelError::Image)?;
    Ok(Entry {
        version,
        image,
        config,
    })
}

impl Compilation<'_> {
    fn configure(&self, fragment: &Fragment) -> Result<Vec<u8>, KernelError> {
        let path = self.tree.join(".config");
        self.run(Phase::ConfigureKernel, self.make(&["allnoconfig"]), &mut |_| ())?;
        // What is said last counts, so the fragment goes behind what `allnoconfig` wrote.
        let mut config = fs::read(&path).map_err(cache_error("read", &path))?;
        config.push(b'\n');
        config.extend_from_slice(fragment.render().as_bytes());
        fs::write(&path, config).map_err(cache_error("write", &path))?;
        self.run(Phase::ConfigureKernel, self.make(&["olddefconfig"]), &mut |_| ())?;
        let config = fs::read(&path).map_err(cache_error("read", &path))?;
        let dropped = fragment.check_survived(&String::from_utf8_lossy(&config));
        if dropped.is_empty() {
            Ok(config)
        } else {
            Err(KernelError::Dropped(dropped))
        }
    }

    fn compile(&self, progress: &mut dyn Progress) -> Result<Vec<u8>, KernelError> {
        let mut built = 0;
        self.run(Phase::CompileKernel, self.make(&["vmlinux"]), &mut |line| {
            if line
                .split_whitespace()
                .next()
                .is_some_and(|mark| OBJECT_MARKS.contains(&mark))
            {
                built += 1;
                progress.event(Event::KernelObjects { built });
            }
        })?;
        let mut strip = clean_command("strip");
        strip
            .current_dir(self.tree)
            .args(["--strip-all", "-o", "vmlinux.stripped", "vmlinux"]);
        self.run(Phase::CompileKernel, strip, &mut |_| ())?;
        let path = self.tree.join("vmlinux.stripped");
        fs::read(&path).map_err(cache_error("read", &path))
    }

    /// `make`, told everything that it would else ask the machine for.
    fn make(&self, targets: &[&str]) -> Command {
        let mut command = clean_command("make");
        let remap = format!("-ffile-prefix-map={}=.", self.tree.display());
        command
            .current_dir(self.tree)
            .env("KBUILD_BUILD_TIMESTAMP", render_date(self.time))
            .env("KBUILD_BUILD_USER", BUILDER)
            .env("KBUILD_BUILD_HOST", BUILDER)
            .env("KBUILD_BUILD_VERSION", "1")
            .env("SOURCE_DATE_EPOCH", self.time.as_second().to_string())
            .env("KCFLAGS", &remap)
            .env("KAFLAGS", &remap)
            .arg(format!("--jobs={}", self.inputs.jobs))
            // Set, even to nothing, it keeps the state of a repository around the cache out of the version.
            .args(["ARCH=x86_64", "LOCALVERSION="])
            .args(self.toolchain.make_variables())
            .args(targets);
        command
    }

    fn run(
        &self,
        phase: Phase,
        mut command: Command,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(), KernelError> {
        command::run(&mut command, self.log, on_line).map_err(run_error(phase, self.log))
    }
}

fn run_error(phase: Phase, log: &Path) -> impl FnOnce(command::RunError) -> KernelError {
    move |source| KernelError::Run {
        phase,
        log: log.to_owned(),
        source,
    }
}

fn cache_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Cache {
        action,
        path: path.to_owned(),
        source,
    }
}

fn modified(path: &Path) -> io::Result<Timestamp> {
    Timestamp::try_from(fs::metadata(path)?.modified()?).map_err(io::Error::other)
}
