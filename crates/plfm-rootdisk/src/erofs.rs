//! An erofs file system of a tree: uncompressed, made of nothing but the tree and an identity, so that the same image
//! gives the same bytes wherever and whenever it is built.
//!
//! ```text
//! block 0            superblock at 1024, checksummed
//! block 1 ...        inodes, each with its attributes and, where it fits, the tail of its data; nid = offset / 32
//! after them         whole blocks of data: directories and files, in the order of the inodes
//! ```
//!
//! Order: a directory, then what is in it and no directory, by name, then its directories, each with all below it.
//! The format is the kernel's (`Documentation/filesystems/erofs.rst`, `fs/erofs/erofs_fs.h`); all inodes are of the
//! extended kind, which has times and wide ids. Files with holes are chunk-based (kernel 5.15 and later).

mod directory;
mod inode;
mod layout;
mod sparse;
mod superblock;
mod write;
mod xattr;

use std::io;

pub(crate) use write::write;

/// The block of the file system, and of its directories.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// The unit in which inodes are numbered.
const SLOT_BYTES: u64 = 32;
/// An extended inode.
const INODE_BYTES: u64 = 64;
/// What stands for a hole in a chunk map.
const HOLE: u32 = u32::MAX;

/// Why a tree cannot become an erofs file system.
#[derive(Debug, thiserror::Error)]
pub enum ErofsError {
    /// It needs more blocks than the format can number: 16 TiB.
    #[error("the image is too large for a file system")]
    Size,
    /// The tree does not hold together: a defect of this program, not of the image.
    #[error("the tree leads to a file that it does not have")]
    Tree,
    /// The disk cannot be written or a content not be read.
    #[error("the disk cannot be written")]
    Io(#[from] io::Error),
}
