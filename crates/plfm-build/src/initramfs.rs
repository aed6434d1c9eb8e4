//! The initramfs: what is in it (the spec's section "Initramfs Contents"), and its limits.
//!
//! Invariant: its bytes are a function of the contents, the epoch and the gzip level. Nothing else is read: no file
//! system, no clock, no user, no umask.

mod archive;

use plfm_release::Sha256Digest;

use crate::Epoch;
use crate::elf::{ElfError, check_static_program};
pub use archive::{ArchiveError, Entry, GzipLevel, Node, gzip, pack};

/// The spec: "guest-init binary < 5 MB".
pub const GUEST_INIT_BYTES_MAX: usize = 5_000_000;
/// The spec: "busybox < 2 MB".
pub const BUSYBOX_BYTES_MAX: usize = 2_000_000;
/// The spec: "CA bundle < 500 KB".
pub const CA_BUNDLE_BYTES_MAX: usize = 500_000;
/// The spec: "<= 20 MiB compressed".
pub const INITRAMFS_BYTES_MAX: usize = 20 << 20;

const DIRECTORIES: [&str; 7] = [
    "dev",
    "mnt",
    "mnt/lower",
    "mnt/newroot",
    "mnt/scratch",
    "proc",
    "sys",
];
const BUSYBOX_DIRECTORIES: [&str; 1] = ["bin"];
const CA_DIRECTORIES: [&str; 3] = ["etc", "etc/ssl", "etc/ssl/certs"];
const CA_BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// What goes into an initramfs.
#[derive(Debug, Clone, Copy)]
pub struct InitramfsContents<'a> {
    /// The guest init program, `/init`.
    pub guest_init: &'a [u8],
    /// `/bin/busybox`, with `/bin/sh` as a link to it.
    pub busybox: Option<&'a [u8]>,
    /// The certificates of the authorities that the guest trusts.
    pub ca_bundle: Option<&'a [u8]>,
}

/// An initramfs image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initramfs {
    /// The image.
    pub bytes: Vec<u8>,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Size of the archive that the kernel unpacks, in bytes.
    pub unpacked_bytes: usize,
}

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A program that could not run in it.
    #[error("a program for the initramfs cannot run there")]
    Program(#[source] ElfError),
    /// A part is larger than the spec allows.
    #[error("{part} is {bytes} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Which part.
        part: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The CA bundle holds no certificate.
    #[error("the CA bundle holds no PEM certificate")]
    NotACaBundle,
    /// The archive could not be made.
    #[error("the initramfs cannot be packed")]
    Archive(#[source] ArchiveError),
}

impl InitramfsError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Program(error) => error.code(),
            Self::TooLarge { .. } => "initramfs_too_large",
            Self::NotACaBundle => "ca_bundle_malformed",
            Self::Archive(_) => "initramfs_pack_failed",
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Program(ElfError::NeedsLoader { .. } | ElfError::NeedsLibrary { .. }) => {
                Some("link the program statically (Debian's busybox-static is such a one)".to_owned())
            }
            _ => None,
        }
    }
}

/// The entries of an initramfs.
pub fn entries<'a>(contents: &InitramfsContents<'a>) -> Vec<Entry<'a>> {
    let directory = |path| Entry {
        path,
        mode: 0o755,
        node: Node::Directory,
    };
    let device = |path, mode, major, minor| Entry {
        path,
        mode,
        node: Node::CharDevice { major, minor },
    };
    let mut entries: Vec<Entry<'a>> = DIRECTORIES.map(directory).into();
    entries.push(Entry {
        path: "init",
        mode: 0o755,
        node: Node::File {
            content: contents.guest_init,
        },
    });
    // The kernel opens /dev/console for PID 1 before anything could mount /dev.
    entries.push(device("dev/console", 0o600, 5, 1));
    entries.push(device("dev/null", 0o666, 1, 3));
    if let Some(content) = contents.busybox {
        entries.extend(BUSYBOX_DIRECTORIES.map(directory));
        entries.push(Entry {
            path: "bin/busybox",
            mode: 0o755,
            node: Node::File { content },
        });
        entries.push(Entry {
            path: "bin/sh",
            mode: 0o777,
            node: Node::Symlink { target: "busybox" },
        });
    }
    if let Some(content) = contents.ca_bundle {
        entries.extend(CA_DIRECTORIES.map(directory));
        entries.push(Entry {
            path: CA_BUNDLE,
            mode: 0o644,
            node: Node::File { content },
        });
    }
    entries
}

/// Builds the initramfs of `contents`.
///
/// # Errors
/// [`InitramfsError`] when a program is not static, or something is larger than the spec allows.
pub fn build_initramfs(
    contents: &InitramfsContents<'_>,
    epoch: Epoch,
    level: GzipLevel,
) -> Result<Initramfs, InitramfsError> {
    check_below("guest init", contents.guest_init, GUEST_INIT_BYTES_MAX)?;
    check_static_program("guest init", contents.guest_init).map_err(InitramfsError::Program)?;
    if let Some(busybox) = contents.busybox {
        check_below("busybox", busybox, BUSYBOX_BYTES_MAX)?;
        check_static_program("busybox", busybox).map_err(InitramfsError::Program)?;
    }
    if let Some(bundle) = contents.ca_bundle {
        check_below("the CA bundle", bundle, CA_BUNDLE_BYTES_MAX)?;
        let mark = b"-----BEGIN CERTIFICATE-----";
        if !bundle.windows(mark.len()).any(|window| window == mark) {
            return Err(InitramfsError::NotACaBundle);
        }
    }
    let archive = pack(&entries(contents), epoch).map_err(InitramfsError::Archive)?;
    let bytes = gzip(&archive, level).map_err(|error| InitramfsError::Archive(ArchiveError::Pack(error)))?;
    check_below("the initramfs", &bytes, INITRAMFS_BYTES_MAX + 1)?;
    Ok(Initramfs {
        sha256: Sha256Digest::of(&bytes),
        bytes,
        unpacked_bytes: archive.len(),
    })
}

fn check_below(part: &'static str, content: &[u8], limit: usize) -> Result<(), InitramfsError> {
    let bytes = content.len();
    if bytes < limit {
        Ok(())
    } else {
        Err(InitramfsError::TooLarge {
            part,
            bytes,
            limit: limit - 1,
        })
    }
}

#[cfg(test)]
mod tests;
