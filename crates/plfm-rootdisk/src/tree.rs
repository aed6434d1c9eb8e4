//! The image's file tree in memory: names and what is known of each file, with the contents elsewhere
//! ([`Spool`](crate::spool::Spool)).
//!
//! Directories own their names. Everything else is an [`Inode`] that one or more names lead to, so that a hard link
//! is a second name and survives when the first is taken away. Nothing here is a path of the host.

mod change;
mod resolve;

use std::collections::BTreeMap;

use crate::limits::DEPTH_MAX;
use crate::spool::Content;
use crate::tar::Mtime;

pub(crate) use change::LinkRefusal;
pub(crate) use resolve::{PathRefusal, split_path};

/// A name in a directory: any bytes but NUL and `/`, not `.` or `..`, at most
/// [`NAME_BYTES_MAX`](crate::limits::NAME_BYTES_MAX) of them.
pub(crate) type Name = Vec<u8>;

/// What every file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Mtime,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Meta {
    /// What a directory gets that no layer describes: a fixed time, as nothing may depend on the host's clock.
    pub(crate) fn of_implied_directory() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: BTreeMap::new(),
        }
    }
}

/// The number of an inode in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InodeId(u32);

/// What a name leads to.
#[derive(Debug)]
pub(crate) enum Node {
    Directory(Directory),
    Inode(InodeId),
}

/// One name of a directory.
#[derive(Debug)]
pub(crate) struct Child {
    /// The last layer that made it, or something below it.
    touched: u32,
    pub node: Node,
}

/// A directory.
#[derive(Debug)]
pub(crate) struct Directory {
    pub meta: Meta,
    pub children: BTreeMap<Name, Child>,
}

/// A file that is not a directory.
#[derive(Debug)]
pub(crate) struct Inode {
    pub meta: Meta,
    pub kind: InodeKind,
}

/// What such a file is.
#[derive(Debug)]
pub(crate) enum InodeKind {
    File(Content),
    Symlink(Vec<u8>),
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// A device's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub major: u32,
    pub minor: u32,
}

/// A whole tree.
#[derive(Debug)]
pub(crate) struct Tree {
    pub root: Directory,
    inodes: Vec<Inode>,
}

impl Directory {
    fn new(meta: Meta) -> Self {
        Self {
            meta,
            children: BTreeMap::new(),
        }
    }
}

impl Tree {
    /// A tree with an empty root.
    pub(crate) fn new() -> Self {
        Self {
            root: Directory::new(Meta::of_implied_directory()),
            inodes: Vec::new(),
        }
    }

    pub(crate) fn inode(&self, id: InodeId) -> Option<&Inode> {
        self.inodes.get(usize::try_from(id.0).ok()?)
    }

    /// How many inodes were ever made; an [`InodeId`]'s index is below it.
    pub(crate) fn inodes_len(&self) -> usize {
        self.inodes.len()
    }

    fn directory(&self, path: &[Name]) -> Option<&Directory> {
        path.iter().try_fold(&self.root, |directory, name| {
            match &directory.children.get(name)?.node {
                Node::Directory(child) => Some(child),
                Node::Inode(_) => None,
            }
        })
    }
}

impl InodeId {
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

// What recurses over a tree recurses as deep as a path has names.
const _: () = assert!(DEPTH_MAX <= 256);
