//! A tar stream, entry by entry, as image layers use it: ustar, PAX, GNU long names and all four kinds of sparse
//! files. Reads forward only and trusts nothing: any bytes give entries or a [`TarError`].
//!
//! ```text
//! TarReader::next_entry --> Entry, its data not read yet --> read_data, or the next next_entry, which skips it
//! ```
//!
//! Names come out as they are in the archive; what they may be is decided where they are applied.

mod header;
mod number;
mod pax;
mod reader;
mod sparse;

use std::collections::BTreeMap;
use std::io;

pub(crate) use reader::TarReader;

/// The unit of a tar archive.
pub(crate) const BLOCK_BYTES: usize = 512;

/// A moment of a file's last change; before 1970 the seconds are negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mtime {
    /// Seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds after that.
    pub nanoseconds: u32,
}

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    HardLink,
    Symlink,
    Directory,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// Bytes of a file that are in the archive; between segments there are holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub offset: u64,
    pub size_bytes: u64,
}

/// One entry of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: EntryKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Mtime,
    pub device_major: u32,
    pub device_minor: u32,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The file's size, holes included.
    pub size_bytes: u64,
    pub segments: Vec<Segment>,
}

/// Bytes that are no tar archive, or one of a kind that layers do not have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    #[error("the archive ends within {0}")]
    Truncated(&'static str),
    #[error("a header has a wrong checksum")]
    Checksum,
    #[error("a header's {field} is not a number that it can be")]
    Number { field: &'static str },
    #[error("an extended header is malformed: {0}")]
    Extended(&'static str),
    #[error("an extended header has {size_bytes} bytes; at most {max} are taken")]
    ExtendedSize { size_bytes: u64, max: u64 },
    #[error("a sparse file's map is malformed: {0}")]
    Sparse(&'static str),
    #[error("entries of type {0:?} are not supported")]
    Kind(char),
}
