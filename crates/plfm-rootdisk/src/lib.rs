//! Root disks from OCI images: a layout directory, an archive or a registry in, one read-only disk out.
//!
//! ```text
//! ImageName --Image::from_layout, from_archive, registry::Puller::fetch--> Image     documents verified, linux/amd64
//!                                                                            |
//!      Store::build: layers verified and applied in memory (one lock a disk) v
//!                                                                       StoredImage  disk, digest, configuration
//!                                                                            |
//!      merge(defaults, request), pure                                        v
//!                                                                         Workload
//! ```
//!
//! Invariants:
//! - No name of an image ever becomes a name on the host: layers are applied to a tree in memory, contents go to one
//!   nameless file, and the disk is written from both. (The ext4 format, the second choice, does need a directory: it
//!   is made from the finished tree, below descriptors, following no link.)
//! - Every byte is checked on the way: blobs against the manifest, unpacked layers against the diff ids, all of them
//!   against [`Limits`] and the constants of [`limits`].
//! - The same image gives the same erofs bytes: no clock, no host name, no random number goes into them.
//! - Nothing of ours is on the disk.
//! - No input makes this crate panic.
//!
//! Everything but the registry blocks; a daemon calls it from a thread that may.

mod defaults;
mod disk;
mod erofs;
mod ext4;
mod image;
mod image_name;
mod layers;
pub mod limits;
mod oci;
mod reference;
pub mod registry;
mod source;
mod spool;
mod store;
mod tar;
mod tree;
mod verify;

pub use defaults::{ExposedPort, ExposedPortError, ImageDefaults, MergeError, WorkloadRequest, merge};
pub use disk::{BuildError, DiskFormat, DiskFormatError, Step};
pub use erofs::ErofsError;
pub use ext4::Ext4Error;
pub use image::{Image, ResolveError};
pub use image_name::ImageName;
pub use layers::LayerError;
pub use limits::Limits;
pub use oci::DocumentError;
pub use reference::{Reference, ReferenceError};
pub use source::ArchiveError;
pub use store::{ImageKey, Removed, Store, StoreError, StoredImage};
