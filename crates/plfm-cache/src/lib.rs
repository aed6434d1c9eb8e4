//! The host's artifact directory: what was delivered, verified, and may be booted.
//!
//! ```text
//! kernels/
//!   vmlinuz-plfm-6.1.50-20251217a                        a second name of .blobs/<sha256>
//!   vmlinuz-plfm-6.1.50-20251217a.sha256                 "<sha256>  <name>", for people (`sha256sum -c`)
//!   initramfs-plfm-guestinit-1.0.0-20251217a.img
//!   initramfs-plfm-guestinit-1.0.0-20251217a.img.sha256
//!   current -> vmlinuz-plfm-6.1.50-20251217a
//!   current-initramfs -> initramfs-plfm-guestinit-1.0.0-20251217a.img
//!   .current -> .releases/<release id>.json              decides what is current; the two links follow it
//!   .blobs/<sha256>                                      an artifact, mode 0444; shared artifacts are here once
//!   .releases/<release id>.json                          the signed manifest, byte for byte as it was verified
//!   .releases/<release id>.installed                     "<RFC 3339>  <sha256 of the manifest>"
//!   .releases/<release id>.removed                       the manifest of a release that is being removed
//!   .staging/                                            what is not finished; emptied at start
//!   .quarantine/<sha256>                                 what rotted
//!   .lock                                                locked by the one process that uses the directory
//! ```
//!
//! The top level is the spec's section "Artifact Storage"; what begins with a dot is ours.
//!
//! ```text
//! VerifiedManifest --Cache::stage--> StagedRelease --install--> InstalledRelease --open--> OpenPair
//!                   sizes, digests                  compatibility                verified at use
//!
//! Cache::inventory --(what stays? plfm-rollout decides)--> Cache::gc --> Removal
//! Cache::scrub --step, at the caller's pace--> Rotted: what has to be fetched anew
//! ```
//!
//! Invariants:
//! - A name at the top level is complete, verified and synced. A crash leaves the old state or the new one, and
//!   [`Cache::open`] brings the links in line with `.current`.
//! - Kernel and initramfs are found through one signed manifest. Nothing here reads `current`, `current-initramfs`
//!   or a `.sha256` file to decide anything.
//! - A boot gets descriptors of bytes that were verified, not paths that were: [`InstalledRelease::open`].
//! - An artifact is removed before the metadata that vouches for it: no name is visible without a manifest on this
//!   disk, and [`Cache::gc`] never removes what is current, in use or held, however full the disk is.
//! - Opening reads no artifact: a host starts at once, and scrubs in the background.
//! - What the disk cannot read ([`OpenArtifactError::Unreadable`]) is not what rotted: it stays until its replacement
//!   is here.
//! - Every change of a file goes through [`Disk`].
//!
//! Everything blocks; a daemon calls it from a thread that may. What verification at use cannot stop is a process
//! with the right to write these files that overwrites one in place while a VMM reads it.

mod blob;
mod cache;
mod current;
mod disk;
mod gc;
mod hold;
mod host_disk;
mod install;
mod installed;
mod record;
mod repair;
mod scrub;
mod stage;
mod tree;

pub use blob::Rot;
pub use cache::{Cache, InventoryEntry, OpenError, Trust};
pub use current::SetCurrentError;
pub use disk::{Disk, FileFacts, FileKind, Folder, Place};
pub use gc::{Kept, KeptBecause, Removal};
pub use host_disk::HostDisk;
pub use install::InstallError;
pub use installed::{InstalledRelease, OpenArtifactError, OpenPair};
pub use record::{NameConflict, ReleaseError};
pub use repair::Repair;
pub use scrub::{Fault, Rotted, Scrub, ScrubState};
pub use stage::{StageError, StagedRelease};
pub use tree::DiskError;
