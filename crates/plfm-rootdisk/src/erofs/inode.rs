//! The 64 bytes of an extended inode.

use crate::erofs::layout::Item;
use crate::tree::{Device, InodeKind, Meta};

const EXTENDED: u16 = 1;

/// How the data of an inode is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// All of it in whole blocks.
    Plain,
    /// The tail behind the inode.
    Inline,
    /// In chunks, some of which are holes.
    Chunked,
}

impl DataLayout {
    fn bits(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::Inline => 2 << 1,
            Self::Chunked => 4 << 1,
        }
    }
}

/// Bits of a mode that say what a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileType {
    File,
    Directory,
    CharDevice,
    BlockDevice,
    Fifo,
    Symlink,
}

impl FileType {
    pub(super) fn of(kind: &InodeKind) -> Self {
        match kind {
            InodeKind::File(_) => Self::File,
            InodeKind::Symlink(_) => Self::Symlink,
            InodeKind::CharDevice(_) => Self::CharDevice,
            InodeKind::BlockDevice(_) => Self::BlockDevice,
            InodeKind::Fifo => Self::Fifo,
        }
    }

    fn mode_bits(self) -> u16 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::File => 0o100_000,
            Self::Symlink => 0o120_000,
        }
    }

    /// What a directory's entry says of it.
    pub(super) fn directory_byte(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::CharDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Symlink => 7,
        }
    }
}

/// An inode, ready to be written.
pub(super) fn render(item: &Item<'_>, meta: &Meta, number: u32, xattr_count: u16) -> Vec<u8> {
    let mut inode = Vec::with_capacity(64);
    inode.extend((EXTENDED | item.layout.bits()).to_le_bytes());
    inode.extend(xattr_count.to_le_bytes());
    inode.extend((item.file_type.mode_bits() | meta.mode).to_le_bytes());
    inode.extend([0; 2]);
    inode.extend(item.size_bytes.to_le_bytes());
    inode.extend(item.address.to_le_bytes());
    inode.extend(number.to_le_bytes());
    inode.extend(meta.uid.to_le_bytes());
    inode.extend(meta.gid.to_le_bytes());
    inode.extend(meta.mtime.seconds.to_le_bytes());
    inode.extend(meta.mtime.nanoseconds.to_le_bytes());
    inode.extend(item.names.to_le_bytes());
    inode.extend([0; 16]);
    inode
}

/// A device's numbers as the kernel packs them.
pub(super) fn pack_device(device: Device) -> u32 {
    (device.minor & 0xff) | (device.major << 8) | ((device.minor & !0xff) << 12)
}
