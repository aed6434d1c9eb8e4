//! Compiling a kernel: `allnoconfig` plus the fragment, `olddefconfig`, a look at what survived, `vmlinux`, strip.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use plfm_release::KernelVersion;

use super::cache::Entry;
use super::config::Fragment;
use super::needs::check_needs;
use super::source::{parse_version, render_date, unpack};
use super::toolchain::{Toolchain, clean_command};
use super::{KernelError, KernelInputs, hash_source};
use crate::command;
use crate::elf::check_kernel;
use crate::progress::{Event, Phase, Progress, phase};

/// Who built the kernel, as its version string has it: the project, not a person or a machine.
const BUILDER: &str = "plfm";
/// What `make` prints before each object it compiles.
const OBJECT_MARKS: [&str; 2] = ["CC", "AS"];

/// A kernel's source, unpacked, in which kernels are compiled one after the other. What two configurations have in
/// common is not compiled twice.
///
/// This is how measurements compare options: with the very commands that make the kernel of a release, so the same
/// options give the same bytes. [`super::build_kernel`] makes a tree for one kernel and removes it.
#[derive(Debug)]
pub struct KernelTree {
    /// The version that the source gives itself.
    version: KernelVersion,
    toolchain: Toolchain,
    /// The unpacked source.
    tree: PathBuf,
    log: PathBuf,
    /// How many compilers run at once.
    jobs: NonZeroUsize,
    /// The time that the build pretends it is: that of the source's own Makefile.
    time: Timestamp,
}

/// A kernel as it comes out of a [`KernelTree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledKernel {
    /// The image, stripped.
    pub image: Vec<u8>,
    /// The whole `.config`.
    pub config: Vec<u8>,
}

/// Compiles a kernel in `tree`, an empty directory.
pub(super) fn compile(
    inputs: &KernelInputs,
    fragment: &Fragment,
    toolchain: Toolchain,
    tree: &Path,
    log: &Path,
    progress: &mut dyn Progress,
) -> Result<Entry, KernelError> {
    unpack_source(&inputs.source, tree, log, progress)?;
    let tree = KernelTree::read(&inputs.source, toolchain, tree, log, inputs.jobs)?;
    let config = tree.configure(fragment, progress)?;
    let unmet = check_needs(inputs.needs, &String::from_utf8_lossy(&config));
    if !unmet.is_empty() {
        return Err(KernelError::Insufficient(unmet));
    }
    Ok(Entry {
        image: tree.compile(progress)?,
        version: tree.version,
        config,
    })
}

fn unpack_source(
    source: &Path,
    tree: &Path,
    log: &Path,
    progress: &mut dyn Progress,
) -> Result<(), KernelError> {
    phase(progress, Phase::UnpackKernel, |_| {
        unpack(source, tree, log).map_err(run_error(Phase::UnpackKernel, log))
    })
}

impl KernelTree {
    /// The tree of `inputs`' source in `parent`, unpacked there if it is not yet; `parent` is made. Of `inputs`, only
    /// source, fragment (for the programs that it needs) and jobs count.
    ///
    /// Two that use the same `parent` at the same time spoil each other's work.
    ///
    /// # Errors
    /// [`KernelError`]: a program is missing, or the source can't be read or unpacked.
    pub fn open(
        inputs: &KernelInputs,
        parent: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Self, KernelError> {
        let fragment = Fragment::parse(&inputs.fragment).map_err(KernelError::Fragment)?;
        let digest = phase(progress, Phase::HashKernelSource, |_| hash_source(inputs))?;
        let toolchain = Toolchain::require(&fragment)?;
        fs::create_dir_all(parent).map_err(cache_error("create", parent))?;
        let parent = parent.canonicalize().map_err(cache_error("find", parent))?;
        let (tree, log) = (parent.join(digest.to_string()), parent.join("log"));
        if !tree.is_dir() {
            let partial = parent.join(format!("{digest}.partial"));
            let _ = fs::remove_dir_all(&partial);
            fs::create_dir(&partial).map_err(cache_error("create", &partial))?;
            unpack_source(&inputs.source, &partial, &log, progress)?;
            fs::rename(&partial, &tree).map_err(cache_error("move into place", &tree))?;
        }
        Self::read(&inputs.source, toolchain, &tree, &log, inputs.jobs)
    }

    /// Compiles the kernel that `fragment` asks for.
    ///
    /// # Errors
    /// [`KernelError`]: an option did not survive, a program failed, or the image can't be booted. Whether the options
    /// are all that guests need is not looked at.
    pub fn build(
        &self,
        fragment: &Fragment,
        progress: &mut dyn Progress,
    ) -> Result<CompiledKernel, KernelError> {
        let config = self.configure(fragment, progress)?;
        let image = self.compile(progress)?;
        Ok(CompiledKernel { image, config })
    }

    /// Takes version and time from an unpacked source.
    fn read(
        source: &Path,
        toolchain: Toolchain,
        tree: &Path,
        log: &Path,
        jobs: NonZeroUsize,
    ) -> Result<Self, KernelError> {
        let makefile = tree.join("Makefile");
        let path = source.to_owned();
        let Some(version) = fs::read_to_string(&makefile)
            .ok()
            .and_then(|text| parse_version(&text))
        else {
            return Err(KernelError::NotKernelSource { path });
        };
        let version = version.map_err(|source| KernelError::Version { path, source })?;
        let time = modified(&makefile).map_err(cache_error("read the time of", &makefile))?;
        Ok(Self {
            version,
            toolchain,
            tree: tree.to_owned(),
            log: log.to_owned(),
            jobs,
            time,
        })
    }

    fn configure(&self, fragment: &Fragment, progress: &mut dyn Progress) -> Result<Vec<u8>, KernelError> {
        phase(progress, Phase::ConfigureKernel, |_| self.make_config(fragment))
    }

    fn compile(&self, progress: &mut dyn Progress) -> Result<Vec<u8>, KernelError> {
        let image = phase(progress, Phase::CompileKernel, |progress| {
            self.make_image(progress)
        })?;
        check_kernel(&image).map_err(KernelError::Image)?;
        Ok(image)
    }

    fn make_config(&self, fragment: &Fragment) -> Result<Vec<u8>, KernelError> {
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

    fn make_image(&self, progress: &mut dyn Progress) -> Result<Vec<u8>, KernelError> {
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
            .current_dir(&self.tree)
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
            .current_dir(&self.tree)
            .env("KBUILD_BUILD_TIMESTAMP", render_date(self.time))
            .env("KBUILD_BUILD_USER", BUILDER)
            .env("KBUILD_BUILD_HOST", BUILDER)
            .env("KBUILD_BUILD_VERSION", "1")
            .env("SOURCE_DATE_EPOCH", self.time.as_second().to_string())
            .env("KCFLAGS", &remap)
            .env("KAFLAGS", &remap)
            .arg(format!("--jobs={}", self.jobs))
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
        command::run(&mut command, &self.log, on_line).map_err(run_error(phase, &self.log))
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
