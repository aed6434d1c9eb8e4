//! Where everything will be on the disk: one pass over the tree that gives every file its number and its blocks.

use crate::erofs::directory::{self, DirectoryEntry};
use crate::erofs::inode::{DataLayout, FileType, pack_device};
use crate::erofs::sparse::Chunks;
use crate::erofs::{BLOCK_BYTES, ErofsError, INODE_BYTES, SLOT_BYTES, xattr};
use crate::tree::{Directory, Inode, InodeKind, Meta, Node, Tree};

/// The largest tail of a file that goes behind its inode: a larger one would leave more of the last block empty than
/// it saves.
const FILE_TAIL_BYTES_MAX: u64 = BLOCK_BYTES / 2;

/// What an item is made of.
pub(super) enum Source<'a> {
    Directory(&'a Directory, Vec<DirectoryEntry<'a>>),
    Inode(&'a Inode),
}

/// One inode of the disk.
pub(super) struct Item<'a> {
    pub source: Source<'a>,
    pub file_type: FileType,
    /// How many names lead to it, with a directory's own.
    pub names: u32,
    pub size_bytes: u64,
    pub layout: DataLayout,
    pub xattr_bytes: u64,
    pub chunks: Option<Chunks>,
    /// Where its inode is.
    pub offset: u64,
    /// What its inode says of its data: the first block, a device's numbers, a chunk's size.
    pub address: u32,
    /// The first block of its data, if it has any.
    pub block: u32,
}

/// The whole disk, planned.
pub(super) struct Layout<'a> {
    pub items: Vec<Item<'a>>,
    pub blocks: u32,
    pub has_chunks: bool,
}

impl<'a> Item<'a> {
    fn new(source: Source<'a>, file_type: FileType, meta: &Meta) -> Self {
        Self {
            source,
            file_type,
            names: 1,
            size_bytes: 0,
            layout: DataLayout::Plain,
            xattr_bytes: xattr::render(&meta.xattrs).len() as u64,
            chunks: None,
            offset: 0,
            address: 0,
            block: 0,
        }
    }

    pub(super) fn meta(&self) -> &'a Meta {
        match &self.source {
            Source::Directory(directory, _) => &directory.meta,
            Source::Inode(inode) => &inode.meta,
        }
    }

    pub(super) fn nid(&self) -> u64 {
        self.offset / SLOT_BYTES
    }

    /// Bytes of its data that are behind the inode.
    pub(super) fn tail_bytes(&self) -> u64 {
        if self.layout == DataLayout::Inline {
            self.size_bytes % BLOCK_BYTES
        } else {
            0
        }
    }

    /// Blocks of its own.
    pub(super) fn data_blocks(&self) -> u64 {
        match (&self.chunks, self.layout) {
            (Some(chunks), _) => chunks
                .with_data
                .iter()
                .map(|chunk| chunks.blocks(*chunk, self.size_bytes))
                .sum(),
            (None, DataLayout::Inline) => self.size_bytes / BLOCK_BYTES,
            (None, _) => self.size_bytes.div_ceil(BLOCK_BYTES),
        }
    }
}

impl<'a> Layout<'a> {
    /// Plans the disk of a tree.
    pub(super) fn plan(tree: &'a Tree) -> Result<Self, ErofsError> {
        let mut gathering = Gathering {
            tree,
            items: Vec::new(),
            of_inode: vec![None; tree.inodes_len()],
        };
        gathering.add_directory(&tree.root, None)?;
        let mut items = gathering.items;
        let mut cursor = BLOCK_BYTES;
        for item in &mut items {
            item.size_bytes = size_bytes(item);
            cursor = place_inode(item, cursor);
        }
        let mut block = cursor.div_ceil(BLOCK_BYTES);
        for item in &mut items {
            item.block = u32::try_from(block).map_err(|_| ErofsError::Size)?;
            item.address = address(item);
            block = block.saturating_add(item.data_blocks());
        }
        let blocks = u32::try_from(block).map_err(|_| ErofsError::Size)?;
        let has_chunks = items.iter().any(|item| item.chunks.is_some());
        Ok(Self {
            items,
            blocks,
            has_chunks,
        })
    }
}

struct Gathering<'a> {
    tree: &'a Tree,
    items: Vec<Item<'a>>,
    /// The item of each inode that was met.
    of_inode: Vec<Option<usize>>,
}

impl<'a> Gathering<'a> {
    /// Adds a directory and everything below it; gives its item. Recursion is bounded by the depth of paths.
    fn add_directory(
        &mut self,
        directory: &'a Directory,
        parent: Option<usize>,
    ) -> Result<usize, ErofsError> {
        let own = self.items.len();
        let source = Source::Directory(directory, Vec::new());
        self.items
            .push(Item::new(source, FileType::Directory, &directory.meta));
        let entry = |name, item, file_type| DirectoryEntry {
            name,
            item,
            file_type,
        };
        let mut entries = vec![
            entry(&b"."[..], own, FileType::Directory),
            entry(&b".."[..], parent.unwrap_or(own), FileType::Directory),
        ];
        for (name, child) in &directory.children {
            if let Node::Inode(id) = &child.node {
                let inode = self.tree.inode(*id).ok_or(ErofsError::Tree)?;
                let item = self.add_inode(inode, id.index())?;
                entries.push(entry(name, item, FileType::of(&inode.kind)));
            }
        }
        let mut directories = 0u32;
        for (name, child) in &directory.children {
            if let Node::Directory(child) = &child.node {
                let item = self.add_directory(child, Some(own))?;
                entries.push(entry(name, item, FileType::Directory));
                directories = directories.saturating_add(1);
            }
        }
        entries.sort_unstable_by_key(|entry| entry.name);
        let item = self.items.get_mut(own).ok_or(ErofsError::Tree)?;
        item.names = directories.saturating_add(2);
        item.source = Source::Directory(directory, entries);
        Ok(own)
    }

    /// Adds a file at its first name; later names count.
    fn add_inode(&mut self, inode: &'a Inode, index: usize) -> Result<usize, ErofsError> {
        let known = self.of_inode.get_mut(index).ok_or(ErofsError::Tree)?;
        if let Some(item) = *known {
            let item_of = self.items.get_mut(item).ok_or(ErofsError::Tree)?;
            item_of.names = item_of.names.saturating_add(1);
            return Ok(item);
        }
        let item = self.items.len();
        *known = Some(item);
        let mut new = Item::new(Source::Inode(inode), FileType::of(&inode.kind), &inode.meta);
        if let InodeKind::File(content) = &inode.kind {
            new.chunks = Chunks::of(content);
        }
        self.items.push(new);
        Ok(item)
    }
}

fn size_bytes(item: &Item<'_>) -> u64 {
    match &item.source {
        Source::Directory(_, entries) => directory::size_bytes(entries),
        Source::Inode(inode) => match &inode.kind {
            InodeKind::File(content) => content.size_bytes,
            InodeKind::Symlink(target) => target.len() as u64,
            InodeKind::CharDevice(_) | InodeKind::BlockDevice(_) | InodeKind::Fifo => 0,
        },
    }
}

/// Puts an inode at the next place where neither it nor an inline tail crosses a block; gives where it ends.
fn place_inode(item: &mut Item<'_>, cursor: u64) -> u64 {
    let fixed = INODE_BYTES.saturating_add(item.xattr_bytes);
    let cursor = cursor.next_multiple_of(SLOT_BYTES);
    let left = BLOCK_BYTES.saturating_sub(cursor % BLOCK_BYTES);
    let tail = item.size_bytes % BLOCK_BYTES;
    if let Some(chunks) = &item.chunks {
        item.layout = DataLayout::Chunked;
        item.offset = if left < INODE_BYTES {
            cursor.next_multiple_of(BLOCK_BYTES)
        } else {
            cursor
        };
        return item
            .offset
            .saturating_add(fixed.next_multiple_of(4))
            .saturating_add(chunks.map_bytes());
    }
    let is_small = item.file_type != FileType::File || tail <= FILE_TAIL_BYTES_MAX;
    let is_inline = tail > 0 && is_small && fixed.saturating_add(tail) <= BLOCK_BYTES;
    item.layout = if is_inline {
        DataLayout::Inline
    } else {
        DataLayout::Plain
    };
    let together = if is_inline {
        fixed.saturating_add(tail)
    } else {
        INODE_BYTES
    };
    item.offset = if left < together {
        cursor.next_multiple_of(BLOCK_BYTES)
    } else {
        cursor
    };
    item.offset
        .saturating_add(fixed)
        .saturating_add(item.tail_bytes())
}

fn address(item: &Item<'_>) -> u32 {
    match (&item.source, &item.chunks) {
        (_, Some(chunks)) => chunks.bits,
        (
            Source::Inode(Inode {
                kind: InodeKind::CharDevice(device) | InodeKind::BlockDevice(device),
                ..
            }),
            _,
        ) => pack_device(*device),
        _ if item.data_blocks() > 0 => item.block,
        _ => 0,
    }
}
