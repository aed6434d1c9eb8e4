//! A tree as a directory of the host, made below descriptors: every name is a single one, no link is followed, and
//! the directory is nobody else's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use crate::spool::SpoolReader;
use crate::tree::{Directory, Inode, InodeId, InodeKind, Meta, Node, Tree};

/// What the tree takes on a disk.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub data_blocks: u64,
    pub inodes: u64,
}

struct Unpacking<'a> {
    tree: &'a Tree,
    contents: &'a SpoolReader,
    root: OwnedFd,
    /// Where each file has its first name, from the root.
    first_names: BTreeMap<InodeId, Vec<u8>>,
    usage: Usage,
}

/// Makes `root` and everything in it.
pub(super) fn unpack(tree: &Tree, contents: &SpoolReader, root: &Path) -> io::Result<Usage> {
    rustix::fs::mkdirat(CWD, root, Mode::from_raw_mode(0o700))?;
    let open = || rustix::fs::openat(CWD, root, DIRECTORY_FLAGS, Mode::empty());
    let mut unpacking = Unpacking {
        tree,
        contents,
        root: open()?,
        first_names: BTreeMap::new(),
        usage: Usage::default(),
    };
    unpacking.fill(&tree.root, open()?.as_fd(), &mut Vec::new())?;
    set_meta(open()?.as_fd(), b".", &tree.root.meta, true)?;
    Ok(unpacking.usage)
}

const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Unpacking<'_> {
    fn fill(&mut self, directory: &Directory, at: BorrowedFd<'_>, path: &mut Vec<u8>) -> io::Result<()> {
        self.usage.inodes = self.usage.inodes.saturating_add(1);
        let names: usize = directory
            .children
            .keys()
            .map(|name| name.len().saturating_add(12))
            .sum();
        self.count_bytes(names.saturating_mul(2) as u64, &directory.meta);
        for (name, child) in &directory.children {
            let parent_bytes = path.len();
            path.extend(name);
            match &child.node {
                Node::Directory(child) => {
                    rustix::fs::mkdirat(at, name.as_slice(), Mode::from_raw_mode(0o700))?;
                    let below = rustix::fs::openat(at, name.as_slice(), DIRECTORY_FLAGS, Mode::empty())?;
                    path.push(b'/');
                    self.fill(child, below.as_fd(), path)?;
                    set_meta(at, name, &child.meta, true)?;
                }
                Node::Inode(id) => self.make(*id, at, name, path)?,
            }
            path.truncate(parent_bytes);
        }
        Ok(())
    }

    fn make(&mut self, id: InodeId, at: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> io::Result<()> {
        if let Some(first) = self.first_names.get(&id) {
            return Ok(rustix::fs::linkat(
                &self.root,
                first.as_slice(),
                at,
                name,
                AtFlags::empty(),
            )?);
        }
        let inode = self.tree.inode(id).ok_or(io::ErrorKind::NotFound)?;
        self.make_first(inode, at, name)?;
        self.first_names.insert(id, path.to_vec());
        self.usage.inodes = self.usage.inodes.saturating_add(1);
        Ok(())
    }

    fn make_first(&mut self, inode: &Inode, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let node = |kind, device| rustix::fs::mknodat(at, name, kind, Mode::from_raw_mode(0o600), device);
        let number = |device: crate::tree::Device| rustix::fs::makedev(device.major, device.minor);
        let mut bytes = 0;
        match &inode.kind {
            InodeKind::File(content) => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o600))?);
                for run in &content.runs {
                    self.contents
                        .copy_to(run.spooled_at, run.size_bytes, &file, run.offset)?;
                    bytes += run.size_bytes.next_multiple_of(super::BLOCK_BYTES);
                }
                file.set_len(content.size_bytes)?;
            }
            InodeKind::Symlink(target) => {
                rustix::fs::symlinkat(target.as_slice(), at, name)?;
                bytes = target.len() as u64;
            }
            InodeKind::CharDevice(device) => node(FileType::CharacterDevice, number(*device))?,
            InodeKind::BlockDevice(device) => node(FileType::BlockDevice, number(*device))?,
            InodeKind::Fifo => node(FileType::Fifo, 0)?,
        }
        self.count_bytes(bytes, &inode.meta);
        let is_symlink = matches!(inode.kind, InodeKind::Symlink(_));
        set_meta(at, name, &inode.meta, !is_symlink)
    }

    fn count_bytes(&mut self, bytes: u64, meta: &Meta) {
        let blocks = bytes
            .div_ceil(super::BLOCK_BYTES)
            .saturating_add(u64::from(!meta.xattrs.is_empty()));
        self.usage.data_blocks = self.usage.data_blocks.saturating_add(blocks);
    }
}

/// Owner first: the kernel takes setuid bits and capabilities away when the owner changes.
fn set_meta(at: BorrowedFd<'_>, name: &[u8], meta: &Meta, has_mode: bool) -> io::Result<()> {
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(
        at,
        name,
        Some(Uid::from_raw(meta.uid)),
        Some(Gid::from_raw(meta.gid)),
        nofollow,
    )?;
    if has_mode {
        rustix::fs::chmodat(
            at,
            name,
            Mode::from_raw_mode(u32::from(meta.mode)),
            AtFlags::empty(),
        )?;
    }
    if !meta.xattrs.is_empty() {
        let path = [format!("/proc/self/fd/{}/", at.as_raw_fd()).as_bytes(), name].concat();
        for (attribute, value) in &meta.xattrs {
            rustix::fs::lsetxattr(path.as_slice(), attribute.as_slice(), value, XattrFlags::empty())?;
        }
    }
    let time = Timespec {
        tv_sec: meta.mtime.seconds,
        tv_nsec: i64::from(meta.mtime.nanoseconds),
    };
    Ok(rustix::fs::utimensat(
        at,
        name,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
        nofollow,
    )?)
}
