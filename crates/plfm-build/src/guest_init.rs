//! Guest init: one static program, compiled from a checkout of this project.
//!
//! The bytes must not say where they were made, so every path that a compiler could write into them is mapped to a
//! fixed one, and no flag of the caller's environment gets through.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use plfm_release::{GuestInitVersion, NameError, Sha256Digest};
use serde::{Deserialize, Serialize};

use crate::command::{self, RunError};
use crate::fault::{Fault, fault_in};
use crate::kernel::hash_file;
use crate::progress::{Phase, Progress, phase};

const PACKAGE: &str = "plfm-guest-init";
const BINARY: &str = "guest-init";
const PROFILE: &str = "guest";
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Variables that would change what the compiler makes. (`CARGO_HOME`, proxies and registries stay.)
const SHAPING_PREFIXES: [&str; 9] = [
    "RUSTFLAGS",
    "RUSTDOC",
    "RUSTC",
    "CARGO_ENCODED_",
    "CARGO_BUILD_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "CARGO_INCREMENTAL",
];
/// What separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_SEPARATOR: &str = "\x1f";

/// A guest init program with its version.
#[derive(Debug, Clone)]
pub struct GuestInit {
    /// Its version.
    pub version: GuestInitVersion,
    /// The program.
    pub program: Vec<u8>,
    /// What it was compiled from, if it was compiled here.
    pub record: Option<GuestInitRecord>,
}

/// What a guest init's bytes depend on besides its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestInitRecord {
    /// First line of `rustc --version --verbose` with the commit.
    pub rustc: String,
    /// First line of the linker driver's `--version`.
    pub linker: String,
    /// Digest of the C library that is linked in.
    pub libc_sha256: Option<Sha256Digest>,
    /// Digest of `Cargo.lock`, which holds a digest of every crate.
    pub lockfile_sha256: Sha256Digest,
}

/// Why there is no guest init.
#[derive(Debug, thiserror::Error)]
pub enum GuestInitError {
    /// A program of the toolchain failed.
    #[error("guest init cannot be compiled")]
    Compile(#[source] RunError),
    /// A file can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The checkout has no guest init.
    #[error("{} is not a checkout of this project: it has no package {PACKAGE}", workspace.display())]
    NoPackage {
        /// The checkout.
        workspace: PathBuf,
    },
    /// It was to be built with a fault and has none, or another one.
    #[error("the guest init that was to have the fault {wanted} has {}", found.as_deref().unwrap_or("none"))]
    FaultMissing {
        /// What it was to have.
        wanted: Fault,
        /// What it has.
        found: Option<String>,
    },
    /// Guest init has a version of another form.
    #[error("the package {PACKAGE} has an unusual version")]
    Version(#[source] NameError),
}

impl GuestInitError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Compile(_) => "guest_init_build_failed",
            Self::Read { .. } => "guest_init_unreadable",
            Self::NoPackage { .. } => "guest_init_source_missing",
            Self::FaultMissing { .. } => "guest_init_fault_missing",
            Self::Version(_) => "guest_init_version_malformed",
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Compile(RunError::Start { .. }) => {
                Some("install Rust with rustup, and gcc and libc6-dev with apt-get".to_owned())
            }
            Self::NoPackage { .. } => {
                Some("pass a checkout with --workspace, or a compiled program with --guest-init".to_owned())
            }
            Self::FaultMissing { .. } => {
                Some("the checkout is of a version that has no such fault: take another one".to_owned())
            }
            Self::Read { .. } | Self::Compile(_) | Self::Version(_) => None,
        }
    }
}

/// The checkout of this project that `start` is in, if it is in one.
pub fn find_workspace(start: &Path) -> Option<PathBuf> {
    let package = Path::new("crates").join(PACKAGE).join("Cargo.toml");
    start
        .ancestors()
        .find(|dir| dir.join(&package).is_file())
        .map(Path::to_owned)
}

/// Reads a guest init that was compiled elsewhere.
///
/// # Errors
/// When the file can't be read. Whether it is a static program is checked where it is packed.
pub fn load_guest_init(path: &Path, version: GuestInitVersion) -> Result<GuestInit, GuestInitError> {
    let program = fs::read(path).map_err(read_error(path))?;
    Ok(GuestInit {
        version,
        program,
        record: None,
    })
}

/// Compiles the guest init of the checkout at `workspace`; with a fault, one that fails on purpose.
///
/// # Errors
/// [`GuestInitError`], with the compiler's last words.
pub fn build_guest_init(
    workspace: &Path,
    fault: Option<Fault>,
    progress: &mut dyn Progress,
) -> Result<GuestInit, GuestInitError> {
    let workspace = workspace.canonicalize().map_err(read_error(workspace))?;
    let version = package_version(&workspace)?;
    let toolchain = Toolchain::find(&workspace)?;
    // Where a good guest init is taken from, no faulty one ever is.
    let target_dir = workspace.join("target").join(match fault {
        None => "guest",
        Some(_) => "guest-faulty",
    });
    phase(progress, Phase::CompileGuestInit, |_| {
        let mut cargo = cargo(&workspace);
        cargo
            .args([
                "build",
                "--locked",
                "--package",
                PACKAGE,
                "--bin",
                BINARY,
                "--profile",
                PROFILE,
            ])
            .args(["--target", TARGET, "--target-dir"])
            .arg(&target_dir)
            .args(
                fault
                    .iter()
                    .flat_map(|fault| ["--features".to_owned(), fault.feature()]),
            )
            .env("CARGO_ENCODED_RUSTFLAGS", toolchain.flags(&workspace));
        command::output(&mut cargo).map_err(GuestInitError::Compile)
    })?;
    let path = target_dir.join(TARGET).join(PROFILE).join(BINARY);
    let program = fs::read(&path).map_err(read_error(&path))?;
    let found = fault_in(&program);
    if let Some(wanted) = fault
        && found.as_deref() != Some(wanted.as_str())
    {
        return Err(GuestInitError::FaultMissing { wanted, found });
    }
    let lockfile = workspace.join("Cargo.lock");
    let record = GuestInitRecord {
        lockfile_sha256: hash_file(&lockfile).map_err(read_error(&lockfile))?,
        rustc: format!("{} ({})", toolchain.rustc, toolchain.commit),
        linker: toolchain.linker,
        libc_sha256: toolchain.libc_sha256,
    };
    Ok(GuestInit {
        version,
        program,
        record: Some(record),
    })
}

/// The compiler, and what of it could end up in a program.
struct Toolchain {
    rustc: String,
    commit: String,
    sysroot: PathBuf,
    linker: String,
    libc_sha256: Option<Sha256Digest>,
}

impl Toolchain {
    fn find(workspace: &Path) -> Result<Self, GuestInitError> {
        let ask = |program: &str, args: &[&str]| {
            let mut command = clean(Command::new(program));
            command.args(args).current_dir(workspace);
            command::output(&mut command).map_err(GuestInitError::Compile)
        };
        let verbose = ask("rustc", &["--version", "--verbose"])?;
        let commit = verbose
            .lines()
            .find_map(|line| line.strip_prefix("commit-hash: "));
        let libc = PathBuf::from(ask("cc", &["-print-file-name=libc.a"])?);
        Ok(Self {
            rustc: first_line(&verbose),
            commit: commit.unwrap_or("unknown").to_owned(),
            sysroot: ask("rustc", &["--print", "sysroot"])?.into(),
            linker: first_line(&ask("cc", &["--version"])?),
            libc_sha256: hash_file(&libc).ok(),
        })
    }

    /// The compiler's flags: a static program at a fixed address, and paths that say nothing.
    fn flags(&self, workspace: &Path) -> OsString {
        let mut flags: Vec<OsString> = vec![
            "-Ctarget-feature=+crt-static".into(),
            "-Crelocation-model=static".into(),
            // It aborts on a panic and never unwinds: 28 KB less of tables, and equal functions once.
            "-Cforce-unwind-tables=no".into(),
            "-Clink-arg=-Wl,--no-eh-frame-hdr,--icf=all".into(),
        ];
        let mut remap = |from: &Path, to: &str| {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(from);
            flag.push("=");
            flag.push(to);
            flags.push(flag);
        };
        // Of several that fit, the compiler takes the last.
        remap(workspace, "/plfm");
        if let Some(home) = cargo_home() {
            remap(&home, "/cargo");
            // Named by a hash of the registry's address, which a mirror changes.
            for registry in subdirectories(&home.join("registry").join("src")) {
                remap(&registry, "/cargo/registry");
            }
        }
        remap(
            &self.sysroot.join("lib/rustlib/src/rust"),
            &format!("/rustc/{}", self.commit),
        );
        flags.join(OsStr::new(FLAG_SEPARATOR))
    }
}

fn package_version(workspace: &Path) -> Result<GuestInitVersion, GuestInitError> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let no_package = || GuestInitError::NoPackage {
        workspace: workspace.to_owned(),
    };
    if find_workspace(workspace).as_deref() != Some(workspace) {
        return Err(no_package());
    }
    let mut cargo = cargo(workspace);
    cargo.args(["metadata", "--no-deps", "--format-version=1"]);
    let text = command::output(&mut cargo).map_err(GuestInitError::Compile)?;
    let metadata: Metadata = serde_json::from_str(&text).map_err(|_| no_package())?;
    let package = metadata
        .packages
        .into_iter()
        .find(|package| package.name == PACKAGE);
    package
        .ok_or_else(no_package)?
        .version
        .parse()
        .map_err(GuestInitError::Version)
}

fn cargo(workspace: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = clean(Command::new(program));
    command.current_dir(workspace).env("LC_ALL", "C");
    command
}

/// Takes every variable that would change what the compiler makes out of `command`'s environment.
fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let shaping = name
            .to_str()
            .is_none_or(|name| SHAPING_PREFIXES.iter().any(|p| name.starts_with(p)));
        if shaping {
            command.env_remove(&name);
        }
    }
    command
}

fn cargo_home() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// In a fixed order; none where there is no such directory.
fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    paths.sort();
    paths
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> GuestInitError {
    move |source| GuestInitError::Read {
        path: path.to_owned(),
        source,
    }
}
