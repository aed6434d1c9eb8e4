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
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch::from_seconds(1);

    /// The smallest program that is one: a header and no segment.
    fn program(length: usize) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        bytes.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0, 1]);
        bytes.resize(52, 0);
        bytes.extend_from_slice(&[64, 0, 56, 0]);
        bytes.resize(length.max(64), 0);
        bytes
    }

    fn code(contents: &InitramfsContents<'_>) -> &'static str {
        build_initramfs(contents, EPOCH, GzipLevel::STORED).map_or_else(|error| error.code(), |_| "built")
    }

    fn paths(contents: &InitramfsContents<'_>) -> Vec<&'static str> {
        let mut paths: Vec<String> = entries(contents)
            .iter()
            .map(|entry| entry.path.to_owned())
            .collect();
        paths.sort();
        paths.into_iter().map(|path| &*path.leak()).collect()
    }

    #[test]
    fn the_initramfs_holds_init_the_console_and_the_mount_points() {
        let contents = InitramfsContents {
            guest_init: b"x",
            busybox: None,
            ca_bundle: None,
        };
        let expected = [
            "dev",
            "dev/console",
            "dev/null",
            "init",
            "mnt",
            "mnt/lower",
            "mnt/newroot",
            "mnt/scratch",
            "proc",
            "sys",
        ];
        assert_eq!(paths(&contents), expected);
    }

    #[test]
    fn busybox_and_certificates_come_only_when_asked_for() {
        let contents = InitramfsContents {
            guest_init: b"x",
            busybox: Some(b"b"),
            ca_bundle: Some(b"c"),
        };
        let all = paths(&contents);
        for path in ["bin/busybox", "bin/sh", CA_BUNDLE] {
            assert!(all.contains(&path), "{path} is missing");
        }
        assert_eq!(all.len(), 10 + 3 + 4);
    }

    #[test]
    fn each_part_has_its_limit() {
        let (init, large) = (program(0), program(GUEST_INIT_BYTES_MAX));
        let contents = InitramfsContents {
            guest_init: &init,
            busybox: None,
            ca_bundle: None,
        };
        assert_eq!(code(&contents), "built");
        assert_eq!(
            code(&InitramfsContents {
                guest_init: &large,
                ..contents
            }),
            "initramfs_too_large"
        );
        let under = &large[..GUEST_INIT_BYTES_MAX - 1];
        assert_eq!(
            code(&InitramfsContents {
                guest_init: under,
                ..contents
            }),
            "built"
        );
        let busybox = Some(&large[..BUSYBOX_BYTES_MAX]);
        assert_eq!(
            code(&InitramfsContents { busybox, ..contents }),
            "initramfs_too_large"
        );
        let bundle = b"-----BEGIN CERTIFICATE-----\n".repeat(20_000);
        let ca_bundle = Some(&bundle[..CA_BUNDLE_BYTES_MAX]);
        assert_eq!(
            code(&InitramfsContents {
                ca_bundle,
                ..contents
            }),
            "initramfs_too_large"
        );
        let ca_bundle = Some(&bundle[..CA_BUNDLE_BYTES_MAX - 1]);
        assert_eq!(
            code(&InitramfsContents {
                ca_bundle,
                ..contents
            }),
            "built"
        );
    }

    #[test]
    fn exactly_20_mib_are_allowed() {
        assert!(check_below("x", &vec![0; INITRAMFS_BYTES_MAX], INITRAMFS_BYTES_MAX + 1).is_ok());
        assert!(check_below("x", &vec![0; INITRAMFS_BYTES_MAX + 1], INITRAMFS_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn what_is_no_program_or_no_bundle_is_refused() {
        let init = program(0);
        let contents = InitramfsContents {
            guest_init: &init,
            busybox: None,
            ca_bundle: None,
        };
        assert_eq!(
            code(&InitramfsContents {
                guest_init: b"#!/bin/sh\n",
                ..contents
            }),
            "elf_malformed"
        );
        assert_eq!(
            code(&InitramfsContents {
                busybox: Some(b"x"),
                ..contents
            }),
            "elf_malformed"
        );
        assert_eq!(
            code(&InitramfsContents {
                ca_bundle: Some(b"x"),
                ..contents
            }),
            "ca_bundle_malformed"
        );
    }

    #[test]
    fn the_epoch_and_the_contents_change_the_bytes_and_nothing_else_does() {
        let (one, two) = (program(100), program(101));
        let build = |guest_init: &[u8], epoch| {
            let contents = InitramfsContents {
                guest_init,
                busybox: None,
                ca_bundle: None,
            };
            build_initramfs(&contents, Epoch::from_seconds(epoch), GzipLevel::STORED)
                .unwrap()
                .sha256
        };
        assert_eq!(build(&one, 5), build(&one, 5));
        assert_ne!(build(&one, 5), build(&one, 6));
        assert_ne!(build(&one, 5), build(&two, 5));
    }
}
