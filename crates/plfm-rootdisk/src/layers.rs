//! Layers applied, one over the other, to a tree in memory.
//!
//! What umoci and the OCI image specification do, with three refusals of our own: a path or a hard link's target that
//! is absolute, one with `..` in it, and anything past the named limits. A symbolic link's target is text: it is
//! kept whatever it says, and where an entry's path leads through one, `/` is the image's root.

mod refusal;

use std::io::{Seek, SeekFrom};

use crate::image::Layer;
use crate::limits::{FILE_BYTES_MAX, Limits, PATH_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_BYTES_MAX};
use crate::source::open_regular;
use crate::spool::{Content, Run, Spool};
use crate::tar::{Entry, EntryKind, TarReader};
use crate::tree::{Device, Inode, InodeKind, Meta, Name, Tree, split_path};
use crate::verify::{Expected, LayerStream};

pub(crate) use refusal::EntryRefusal;
pub use refusal::LayerError;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// Names that aufs kept for itself; other engines pass over them too.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
/// Major numbers that Linux can have (12 bits), and minor ones (20 bits).
const DEVICE_MAJOR_MAX: u32 = 0xfff;
const DEVICE_MINOR_MAX: u32 = 0xf_ffff;

/// A tree that layers are being applied to.
pub(crate) struct Applied<'a> {
    limits: &'a Limits,
    pub(crate) tree: Tree,
    pub(crate) spool: Spool,
    entries: u64,
    metadata_bytes: u64,
    unpacked_bytes: u64,
    /// Attributes that no erofs or ext4 can hold, as the names of other systems have no place in Linux.
    pub(crate) dropped_xattrs: u64,
}

impl<'a> Applied<'a> {
    pub(crate) fn new(limits: &'a Limits, spool: Spool) -> Self {
        Self {
            limits,
            tree: Tree::new(),
            spool,
            entries: 0,
            metadata_bytes: 0,
            unpacked_bytes: 0,
            dropped_xattrs: 0,
        }
    }

    /// Applies one layer. After an error the tree is worth nothing.
    pub(crate) fn apply(&mut self, index: usize, layer: &Layer) -> Result<(), LayerError> {
        let number = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        let read = |source| LayerError::from_read(index, source);
        let mut file = open_regular(&layer.file).map_err(read)?;
        file.seek(SeekFrom::Start(layer.offset)).map_err(read)?;
        let expected = Expected {
            digest: layer.digest,
            size_bytes: layer.size_bytes,
            diff_id: layer.diff_id,
            packing: layer.packing,
        };
        let budget = self.limits.unpacked_bytes_max.saturating_sub(self.unpacked_bytes);
        let stream = LayerStream::open(file, &expected, self.limits, budget).map_err(read)?;
        let mut reader = TarReader::new(stream);
        let applied = self.apply_entries(index, number, &mut reader);
        let stream = reader.into_stream();
        match applied {
            Ok(()) => {
                let unpacked = stream.finish().map_err(read)?;
                self.unpacked_bytes = self.unpacked_bytes.saturating_add(unpacked);
                Ok(())
            }
            // Damaged bytes look like anything: that they are not the ones that the manifest names is the better word.
            Err(error) if error.may_be_damage() => Err(stream.finish_stored().err().map_or(error, read)),
            Err(error) => Err(error),
        }
    }

    fn apply_entries(
        &mut self,
        index: usize,
        number: u32,
        reader: &mut TarReader<LayerStream>,
    ) -> Result<(), LayerError> {
        while let Some(entry) = reader
            .next_entry()
            .map_err(|error| LayerError::from_tar(index, error))?
        {
            let path = entry.path.clone();
            self.apply_entry(entry, number, reader)
                .map_err(|refusal| LayerError::from_entry(index, &path, refusal))?;
        }
        Ok(())
    }

    fn apply_entry(
        &mut self,
        entry: Entry,
        layer: u32,
        data: &mut TarReader<impl std::io::Read>,
    ) -> Result<(), EntryRefusal> {
        self.count(&entry)?;
        let mut path = split_path(&entry.path)?;
        let Some(name) = path.pop() else {
            return self.apply_root(entry);
        };
        let parent = self.tree.resolve_directory(&path)?;
        if name.starts_with(WHITEOUT_PREFIX) {
            return self.apply_whiteout(&parent, &name, layer);
        }
        let kind = match entry.kind {
            EntryKind::Directory => {
                let meta = self.meta(entry)?;
                return Ok(self.tree.put_directory(&parent, name, meta, layer)?);
            }
            EntryKind::HardLink => return self.apply_link(&entry, &parent, name, layer),
            EntryKind::File => InodeKind::File(self.spool_data(&entry, data)?),
            EntryKind::Symlink => InodeKind::Symlink(symlink_target(&entry)?),
            EntryKind::CharDevice => InodeKind::CharDevice(device(&entry)?),
            EntryKind::BlockDevice => InodeKind::BlockDevice(device(&entry)?),
            EntryKind::Fifo => InodeKind::Fifo,
        };
        let meta = self.meta(entry)?;
        Ok(self.tree.put_inode(&parent, name, Inode { meta, kind }, layer)?)
    }

    /// Every entry takes memory, also one that is replaced later.
    fn count(&mut self, entry: &Entry) -> Result<(), EntryRefusal> {
        self.entries = self.entries.saturating_add(1);
        if self.entries > self.limits.entries_max {
            return Err(EntryRefusal::Entries(self.limits.entries_max));
        }
        let xattrs = entry
            .xattrs
            .iter()
            .map(|(name, value)| name.len().saturating_add(value.len()));
        let runs = entry.segments.len().saturating_mul(size_of::<Run>());
        let bytes = [entry.path.len(), entry.link.len(), runs]
            .into_iter()
            .chain(xattrs);
        self.metadata_bytes = bytes.fold(self.metadata_bytes, |sum, bytes| sum.saturating_add(bytes as u64));
        if self.metadata_bytes > self.limits.metadata_bytes_max {
            return Err(EntryRefusal::Metadata(self.limits.metadata_bytes_max));
        }
        Ok(())
    }

    fn apply_root(&mut self, entry: Entry) -> Result<(), EntryRefusal> {
        if entry.kind != EntryKind::Directory {
            return Err(EntryRefusal::Root);
        }
        self.tree.root.meta = self.meta(entry)?;
        Ok(())
    }

    fn apply_whiteout(&mut self, parent: &[Name], name: &[u8], layer: u32) -> Result<(), EntryRefusal> {
        if name == OPAQUE_NAME {
            self.tree.make_opaque(parent, layer);
            return Ok(());
        }
        if name.starts_with(AUFS_PREFIX) {
            return Ok(());
        }
        match name.strip_prefix(WHITEOUT_PREFIX).unwrap_or_default() {
            b"" | b"." | b".." => Err(EntryRefusal::Whiteout),
            hidden => {
                self.tree.white_out(parent, hidden, layer);
                Ok(())
            }
        }
    }

    fn apply_link(
        &mut self,
        entry: &Entry,
        parent: &[Name],
        name: Name,
        layer: u32,
    ) -> Result<(), EntryRefusal> {
        let mut target = split_path(&entry.link).map_err(EntryRefusal::LinkPath)?;
        let target_name = target
            .pop()
            .ok_or(EntryRefusal::Link(crate::tree::LinkRefusal::Directory))?;
        let target_parent = self
            .tree
            .resolve_directory(&target)
            .map_err(EntryRefusal::LinkPath)?;
        if target_parent == parent && target_name == name {
            return Err(EntryRefusal::Link(crate::tree::LinkRefusal::Itself));
        }
        let id = self.tree.link_target(&target_parent, &target_name)?;
        Ok(self.tree.put_link(parent, name, id, layer)?)
    }

    /// Metadata as the disk will have it: without attributes that Linux has no place for.
    fn meta(&mut self, entry: Entry) -> Result<Meta, EntryRefusal> {
        let mut xattrs = entry.xattrs;
        let count = xattrs.len();
        xattrs.retain(|name, _| is_kept_xattr(name));
        self.dropped_xattrs = self
            .dropped_xattrs
            .saturating_add(count.saturating_sub(xattrs.len()) as u64);
        let mut sum = 0usize;
        for (name, value) in &xattrs {
            if name.len() > crate::limits::NAME_BYTES_MAX || value.len() > XATTR_VALUE_BYTES_MAX {
                return Err(EntryRefusal::Xattr);
            }
            sum = sum.saturating_add(name.len()).saturating_add(value.len());
        }
        if sum > XATTRS_BYTES_MAX {
            return Err(EntryRefusal::Xattr);
        }
        Ok(Meta {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs,
        })
    }

    fn spool_data(
        &mut self,
        entry: &Entry,
        data: &mut TarReader<impl std::io::Read>,
    ) -> Result<Content, EntryRefusal> {
        if entry.size_bytes > FILE_BYTES_MAX {
            return Err(EntryRefusal::FileSize(FILE_BYTES_MAX));
        }
        let mut spooled_at = self.spool.position();
        let mut runs = Vec::with_capacity(entry.segments.len());
        for segment in &entry.segments {
            runs.push(Run {
                offset: segment.offset,
                spooled_at,
                size_bytes: segment.size_bytes,
            });
            spooled_at = spooled_at.saturating_add(segment.size_bytes);
        }
        let mut buffer = [0; 64 << 10];
        loop {
            match data.read_data(&mut buffer).map_err(EntryRefusal::Tar)? {
                0 => break,
                count => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    self.spool.append(bytes).map_err(EntryRefusal::Spool)?;
                }
            }
        }
        Ok(Content {
            size_bytes: entry.size_bytes,
            runs,
        })
    }
}

/// Attributes of Linux, except those by which overlayfs would take the image's files for its own bookkeeping.
fn is_kept_xattr(name: &[u8]) -> bool {
    if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
        return false;
    }
    let has_name = |prefix: &[u8]| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && !rest.contains(&0))
    };
    name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
        || [&b"user."[..], b"trusted.", b"security."]
            .into_iter()
            .any(has_name)
}

fn symlink_target(entry: &Entry) -> Result<Vec<u8>, EntryRefusal> {
    match entry.link.len() {
        0 => Err(EntryRefusal::Target),
        _ if entry.link.len() > PATH_BYTES_MAX || entry.link.contains(&0) => Err(EntryRefusal::Target),
        _ => Ok(entry.link.clone()),
    }
}

fn device(entry: &Entry) -> Result<Device, EntryRefusal> {
    if entry.device_major > DEVICE_MAJOR_MAX || entry.device_minor > DEVICE_MINOR_MAX {
        return Err(EntryRefusal::Device);
    }
    Ok(Device {
        major: entry.device_major,
        minor: entry.device_minor,
    })
}
