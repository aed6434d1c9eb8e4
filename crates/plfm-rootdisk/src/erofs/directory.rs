//! The data of directories: blocks of entries, then names, both in the order of the names.

use crate::erofs::BLOCK_BYTES;
use crate::erofs::inode::FileType;

const ENTRY_BYTES: u64 = 12;

/// One name of a directory, with what it leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectoryEntry<'a> {
    pub name: &'a [u8],
    pub item: usize,
    pub file_type: FileType,
}

/// The entries of a directory, cut into the blocks that they fill, with the bytes of each.
pub(super) fn blocks<'a, 'b>(entries: &'b [DirectoryEntry<'a>]) -> Vec<(&'b [DirectoryEntry<'a>], u64)> {
    let mut blocks = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (at, entry) in entries.iter().enumerate() {
        let bytes = ENTRY_BYTES.saturating_add(entry.name.len() as u64);
        if used + bytes > BLOCK_BYTES {
            blocks.push((entries.get(start..at).unwrap_or_default(), used));
            (start, used) = (at, 0);
        }
        used += bytes;
    }
    blocks.push((entries.get(start..).unwrap_or_default(), used));
    blocks
}

/// How many bytes a directory has: whole blocks but for the last.
pub(super) fn size_bytes(entries: &[DirectoryEntry<'_>]) -> u64 {
    let blocks = blocks(entries);
    let last = blocks.last().map_or(0, |(_, used)| *used);
    (blocks.len() as u64)
        .saturating_sub(1)
        .saturating_mul(BLOCK_BYTES)
        .saturating_add(last)
}

/// The bytes of one block, not padded. `nid_of` gives the number of an item.
pub(super) fn render_block<E>(
    entries: &[DirectoryEntry<'_>],
    nid_of: impl Fn(usize) -> Result<u64, E>,
) -> Result<Vec<u8>, E> {
    let mut block = Vec::new();
    let mut name_at = (entries.len() as u64).saturating_mul(ENTRY_BYTES);
    for entry in entries {
        block.extend(nid_of(entry.item)?.to_le_bytes());
        block.extend(u16::try_from(name_at).unwrap_or(u16::MAX).to_le_bytes());
        block.extend([entry.file_type.directory_byte(), 0]);
        name_at = name_at.saturating_add(entry.name.len() as u64);
    }
    entries.iter().for_each(|entry| block.extend(entry.name));
    Ok(block)
}
