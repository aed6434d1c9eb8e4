//! Files with holes: which chunks of them have data.

use crate::erofs::BLOCK_BYTES;
use crate::spool::Content;

/// The largest chunk: 2^31 blocks are more than any file that is taken.
const CHUNK_BITS_MAX: u32 = 19;
/// Chunks of one file, holes counted: what its map takes is four bytes for each.
const CHUNKS_MAX: u64 = 1 << 18;

/// How a file is cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunks {
    /// The size of a chunk, as a power of two of blocks.
    pub bits: u32,
    /// How many there are.
    pub count: u64,
    /// The numbers of those with data, ascending.
    pub with_data: Vec<u64>,
}

impl Chunks {
    /// The cheapest cut of a file; nothing if the file has no hole that is worth it.
    pub(super) fn of(content: &Content) -> Option<Self> {
        let blocks = content.size_bytes.div_ceil(BLOCK_BYTES);
        let data: u64 = content.runs.iter().map(|run| run.size_bytes).sum();
        if content.size_bytes.saturating_sub(data) < BLOCK_BYTES {
            return None;
        }
        let cuts = (0..=CHUNK_BITS_MAX).filter(|bits| blocks.div_ceil(1 << bits) <= CHUNKS_MAX);
        let best = cuts
            .map(|bits| Self::cut(content, bits))
            .min_by_key(|cut| cut.cost_bytes(content))?;
        (best.cost_bytes(content) < blocks.saturating_mul(BLOCK_BYTES)).then_some(best)
    }

    fn cut(content: &Content, bits: u32) -> Self {
        let chunk_bytes = BLOCK_BYTES << bits;
        let mut with_data: Vec<u64> = Vec::new();
        for run in &content.runs {
            let first = run.offset / chunk_bytes;
            let last = run.offset.saturating_add(run.size_bytes.saturating_sub(1)) / chunk_bytes;
            let start = with_data
                .last()
                .map_or(first, |seen| first.max(seen.saturating_add(1)));
            with_data.extend(start..=last);
        }
        Self {
            bits,
            count: content.size_bytes.div_ceil(chunk_bytes),
            with_data,
        }
    }

    fn cost_bytes(&self, content: &Content) -> u64 {
        let data: u64 = self
            .with_data
            .iter()
            .map(|chunk| self.blocks(*chunk, content.size_bytes))
            .sum();
        data.saturating_mul(BLOCK_BYTES).saturating_add(self.map_bytes())
    }

    pub(super) fn map_bytes(&self) -> u64 {
        self.count.saturating_mul(4)
    }

    /// Where a chunk begins in the file.
    pub(super) fn offset(&self, chunk: u64) -> u64 {
        chunk.saturating_mul(BLOCK_BYTES << self.bits)
    }

    /// The blocks of a chunk: the last one ends with the file.
    pub(super) fn blocks(&self, chunk: u64, size_bytes: u64) -> u64 {
        let left = size_bytes.saturating_sub(self.offset(chunk));
        left.min(BLOCK_BYTES << self.bits).div_ceil(BLOCK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Run;

    fn content(size_bytes: u64, runs: &[(u64, u64)]) -> Content {
        let run = |(offset, size_bytes): &(u64, u64)| Run {
            offset: *offset,
            spooled_at: 0,
            size_bytes: *size_bytes,
        };
        Content {
            size_bytes,
            runs: runs.iter().map(run).collect(),
        }
    }

    #[test]
    fn a_file_without_a_whole_block_of_hole_is_not_cut() {
        assert_eq!(Chunks::of(&content(8192, &[(0, 4097), (4200, 3992)])), None);
        assert_eq!(Chunks::of(&content(8192, &[(0, 8192)])), None);
    }

    #[test]
    fn a_terabyte_of_hole_costs_a_small_map() {
        let cut = Chunks::of(&content(1 << 40, &[(1 << 39, 10)])).unwrap();
        assert_eq!(cut.with_data.len(), 1);
        assert!(cut.cost_bytes(&content(1 << 40, &[(1 << 39, 10)])) < 16 << 20);
    }

    #[test]
    fn runs_that_share_a_chunk_count_once() {
        let cut = Chunks::cut(&content(1 << 20, &[(0, 1), (100, 1), (5000, 1)]), 0);
        assert_eq!(cut.with_data, [0, 1]);
    }
}
