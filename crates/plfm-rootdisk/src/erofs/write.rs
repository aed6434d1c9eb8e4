//! The planned disk, written front to back.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use crate::erofs::inode::DataLayout;
use crate::erofs::layout::{Item, Layout, Source};
use crate::erofs::sparse::Chunks;
use crate::erofs::superblock::Superblock;
use crate::erofs::{BLOCK_BYTES, ErofsError, HOLE, directory, inode, xattr};
use crate::spool::{Content, SpoolReader};
use crate::tree::{InodeKind, Tree};

const BUFFER_BYTES: usize = 1 << 20;

/// Writes the file system of a tree into an empty file; gives its size.
pub(crate) fn write(
    tree: &Tree,
    contents: &SpoolReader,
    uuid: [u8; 16],
    disk: &File,
) -> Result<u64, ErofsError> {
    let layout = Layout::plan(tree)?;
    let size_bytes = u64::from(layout.blocks).saturating_mul(BLOCK_BYTES);
    disk.set_len(size_bytes)?;
    let mut metadata = Metadata {
        layout: &layout,
        contents,
        out: BufWriter::with_capacity(BUFFER_BYTES, disk),
        at: 0,
    };
    metadata.write(uuid)?;
    for item in &layout.items {
        write_data(&layout, item, contents, disk)?;
    }
    Ok(size_bytes)
}

/// The superblock and the inodes.
struct Metadata<'a> {
    layout: &'a Layout<'a>,
    contents: &'a SpoolReader,
    out: BufWriter<&'a File>,
    at: u64,
}

impl Metadata<'_> {
    fn write(&mut self, uuid: [u8; 16]) -> Result<(), ErofsError> {
        let layout = self.layout;
        let root_nid = layout.items.first().map(Item::nid).ok_or(ErofsError::Tree)?;
        let superblock = Superblock {
            root_nid: u16::try_from(root_nid).map_err(|_| ErofsError::Tree)?,
            inodes: layout.items.len() as u64,
            blocks: layout.blocks,
            uuid,
            has_chunks: layout.has_chunks,
        };
        self.out.seek(SeekFrom::Start(0))?;
        self.put(&superblock.render())?;
        for (number, item) in (1..).zip(&layout.items) {
            self.pad_to(item.offset)?;
            self.write_item(item, number)?;
        }
        self.out.flush()?;
        Ok(())
    }

    fn write_item(&mut self, item: &Item<'_>, number: u32) -> Result<(), ErofsError> {
        let xattrs = xattr::render(&item.meta().xattrs);
        self.put(&inode::render(
            item,
            item.meta(),
            number,
            xattr::count(xattrs.len()),
        ))?;
        self.put(&xattrs)?;
        if let Some(chunks) = &item.chunks {
            self.pad_to(self.at.next_multiple_of(4))?;
            return self.write_map(item, chunks);
        }
        let tail = tail(self.layout, item, self.contents)?;
        self.put(&tail)
    }

    fn write_map(&mut self, item: &Item<'_>, chunks: &Chunks) -> Result<(), ErofsError> {
        let mut block = item.block;
        let mut with_data = chunks.with_data.iter().peekable();
        for chunk in 0..chunks.count {
            if with_data.next_if(|next| **next == chunk).is_none() {
                self.put(&HOLE.to_le_bytes())?;
                continue;
            }
            self.put(&block.to_le_bytes())?;
            let blocks =
                u32::try_from(chunks.blocks(chunk, item.size_bytes)).map_err(|_| ErofsError::Size)?;
            block = block.saturating_add(blocks);
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ErofsError> {
        self.out.write_all(bytes)?;
        self.at = self.at.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn pad_to(&mut self, offset: u64) -> Result<(), ErofsError> {
        let gap = offset.checked_sub(self.at).ok_or(ErofsError::Tree)?;
        io::copy(&mut io::Read::take(io::repeat(0), gap), &mut self.out)?;
        self.at = offset;
        Ok(())
    }
}

/// What goes behind the inode.
fn tail(layout: &Layout<'_>, item: &Item<'_>, contents: &SpoolReader) -> Result<Vec<u8>, ErofsError> {
    if item.layout != DataLayout::Inline {
        return Ok(Vec::new());
    }
    match &item.source {
        Source::Directory(_, entries) => match directory::blocks(entries).last() {
            Some((entries, _)) => directory::render_block(entries, |item| nid_of(layout, item)),
            None => Ok(Vec::new()),
        },
        Source::Inode(inode) => match &inode.kind {
            InodeKind::Symlink(target) => Ok(target.clone()),
            InodeKind::File(content) => {
                let mut tail = vec![0; usize::try_from(item.tail_bytes()).map_err(|_| ErofsError::Size)?];
                contents.read(
                    content,
                    item.size_bytes.saturating_sub(item.tail_bytes()),
                    &mut tail,
                )?;
                Ok(tail)
            }
            InodeKind::CharDevice(_) | InodeKind::BlockDevice(_) | InodeKind::Fifo => Ok(Vec::new()),
        },
    }
}

fn nid_of(layout: &Layout<'_>, item: usize) -> Result<u64, ErofsError> {
    layout.items.get(item).map(Item::nid).ok_or(ErofsError::Tree)
}

/// The blocks of an item. What is not written stays a hole of the disk's file, and reads as zeros.
fn write_data(
    layout: &Layout<'_>,
    item: &Item<'_>,
    contents: &SpoolReader,
    disk: &File,
) -> Result<(), ErofsError> {
    let at = u64::from(item.block).saturating_mul(BLOCK_BYTES);
    match &item.source {
        Source::Directory(_, entries) => {
            let whole = usize::try_from(item.data_blocks()).map_err(|_| ErofsError::Size)?;
            for (number, (entries, _)) in (0u64..).zip(directory::blocks(entries)).take(whole) {
                let block = directory::render_block(entries, |item| nid_of(layout, item))?;
                let offset = at.saturating_add(number.saturating_mul(BLOCK_BYTES));
                std::os::unix::fs::FileExt::write_all_at(disk, &block, offset)?;
            }
        }
        Source::Inode(inode) => match &inode.kind {
            InodeKind::Symlink(target) if item.data_blocks() > 0 => {
                std::os::unix::fs::FileExt::write_all_at(disk, target, at)?;
            }
            InodeKind::File(content) => write_content(item, content, contents, disk, at)?,
            _ => {}
        },
    }
    Ok(())
}

fn write_content(
    item: &Item<'_>,
    content: &Content,
    contents: &SpoolReader,
    disk: &File,
    at: u64,
) -> io::Result<()> {
    let Some(chunks) = &item.chunks else {
        let end = item.data_blocks().saturating_mul(BLOCK_BYTES);
        return copy_range(content, contents, 0..end, disk, at);
    };
    let mut at = at;
    for chunk in &chunks.with_data {
        let start = chunks.offset(*chunk);
        let bytes = chunks.blocks(*chunk, item.size_bytes).saturating_mul(BLOCK_BYTES);
        copy_range(content, contents, start..start.saturating_add(bytes), disk, at)?;
        at = at.saturating_add(bytes);
    }
    Ok(())
}

/// Copies what the runs have of a range of the file; the range begins at `at` on the disk.
fn copy_range(
    content: &Content,
    contents: &SpoolReader,
    range: std::ops::Range<u64>,
    disk: &File,
    at: u64,
) -> io::Result<()> {
    let first = content
        .runs
        .partition_point(|run| run.offset.saturating_add(run.size_bytes) <= range.start);
    for run in content
        .runs
        .iter()
        .skip(first)
        .take_while(|run| run.offset < range.end)
    {
        let from = run.offset.max(range.start);
        let to = run.offset.saturating_add(run.size_bytes).min(range.end);
        let spooled_at = run.spooled_at.saturating_add(from.saturating_sub(run.offset));
        let place = at.saturating_add(from.saturating_sub(range.start));
        contents.copy_to(spooled_at, to.saturating_sub(from), disk, place)?;
    }
    Ok(())
}
