//! Why there is no kernel.

use std::io;
use std::path::{Path, PathBuf};

use plfm_release::NameError;

use super::KERNEL_SOURCE_DEFAULT;
use super::config::{DroppedOption, FragmentError};
use super::needs::UnmetNeed;
use crate::command::RunError;
use crate::elf::ElfError;
use crate::progress::Phase;

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The source can't be read.
    #[error("cannot read the kernel's source {}", path.display())]
    Source {
        /// The tarball.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something that a build needs is not installed.
    #[error("the kernel's build needs what is not installed: {}", things.join(", "))]
    MissingTools {
        /// Programs and headers.
        things: Vec<&'static str>,
        /// The Debian packages that have them.
        packages: Vec<&'static str>,
    },
    /// The configuration fragment can't be read.
    #[error("the kernel cannot be configured")]
    Fragment(#[source] FragmentError),
    /// The tarball holds something else.
    #[error("{} is not the source of a kernel: its Makefile gives no version", path.display())]
    NotKernelSource {
        /// The tarball.
        path: PathBuf,
    },
    /// The source has a version of another form.
    #[error("the kernel's source {} has an unusual version", path.display())]
    Version {
        /// The tarball.
        path: PathBuf,
        /// Why.
        #[source]
        source: NameError,
    },
    /// Options did not survive `make olddefconfig`.
    #[error("the kernel's configuration came out otherwise than asked for: {}", render_list(.0))]
    Dropped(Vec<DroppedOption>),
    /// The configuration lacks what guests need.
    #[error("the kernel's configuration lacks what guests need: {}", render_list(.0))]
    Insufficient(Vec<UnmetNeed>),
    /// A program failed.
    #[error("{} did not succeed (log: {})", phase, log.display())]
    Run {
        /// In which phase.
        phase: Phase,
        /// The log of the whole build.
        log: PathBuf,
        /// Why.
        #[source]
        source: RunError,
    },
    /// A program could not be asked for its version.
    #[error("cannot tell the versions of the kernel's build tools")]
    Toolchain(#[source] RunError),
    /// What came out can't be booted.
    #[error("the kernel that was built cannot be booted")]
    Image(#[source] ElfError),
    /// The kernel's own build refuses such a path.
    #[error("no kernel can be compiled in {}: its path has a space or a colon", path.display())]
    CachePath {
        /// The cache.
        path: PathBuf,
    },
    /// The cache can't be read or written.
    #[error("cannot {action} {}", path.display())]
    Cache {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn render_list<T: ToString>(list: &[T]) -> String {
    list.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

impl KernelError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Source { .. } => "kernel_source_unreadable",
            Self::MissingTools { .. } => "kernel_tools_missing",
            Self::Fragment(_) => "kernel_config_malformed",
            Self::NotKernelSource { .. } | Self::Version { .. } => "kernel_source_malformed",
            Self::Dropped(_) => "kernel_config_dropped",
            Self::Insufficient(_) => "kernel_config_insufficient",
            Self::Run { .. } | Self::Toolchain(_) => "kernel_build_failed",
            Self::Image(error) => error.code(),
            Self::CachePath { .. } | Self::Cache { .. } => "kernel_cache_failed",
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source { path, source } if source.kind() == io::ErrorKind::NotFound => {
                let debian = path == Path::new(KERNEL_SOURCE_DEFAULT);
                let install = "sudo apt-get install linux-source-6.1";
                let hint = if debian {
                    install
                } else {
                    "pass the tarball of a Linux kernel with --kernel-source"
                };
                Some(hint.to_owned())
            }
            Self::MissingTools { packages, .. } => {
                Some(format!("sudo apt-get install {}", packages.join(" ")))
            }
            Self::Dropped(_) => {
                Some("look up what each option depends on, and add that to the fragment".to_owned())
            }
            Self::Insufficient(_) => Some("add the options to the fragment".to_owned()),
            Self::CachePath { .. } => Some("pass another directory with --kernel-cache".to_owned()),
            Self::Run { log, .. } => Some(format!("read {}", log.display())),
            _ => None,
        }
    }
}
