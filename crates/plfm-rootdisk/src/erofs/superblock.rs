//! The superblock.

use crate::erofs::BLOCK_BYTES;

const MAGIC: u32 = 0xe0f5_e1e2;
const OFFSET: usize = 1024;
const CHECKSUM_AT: usize = OFFSET + 4;
const COMPAT_SB_CHKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
const INCOMPAT_CHUNKED_FILE: u32 = 4;

/// What the superblock says.
pub(super) struct Superblock {
    pub root_nid: u16,
    pub inodes: u64,
    pub blocks: u32,
    pub uuid: [u8; 16],
    pub has_chunks: bool,
}

impl Superblock {
    /// Block 0. The time of the build is 0: it would be the host's.
    pub(super) fn render(&self) -> Vec<u8> {
        let incompat = if self.has_chunks { INCOMPAT_CHUNKED_FILE } else { 0 };
        let mut block = vec![0; OFFSET];
        block.extend(MAGIC.to_le_bytes());
        block.extend([0; 4]);
        block.extend((COMPAT_SB_CHKSUM | COMPAT_MTIME).to_le_bytes());
        block.extend([12, 0]);
        block.extend(self.root_nid.to_le_bytes());
        block.extend(self.inodes.to_le_bytes());
        block.extend([0; 12]);
        block.extend(self.blocks.to_le_bytes());
        // Inodes are numbered from the start of the disk; there are no shared attributes.
        block.extend([0; 8]);
        block.extend(self.uuid);
        block.extend([0; 16]);
        block.extend(incompat.to_le_bytes());
        block.resize(usize::try_from(BLOCK_BYTES).unwrap_or(block.len()), 0);
        let checksum = crc32c(block.get(OFFSET..).unwrap_or_default());
        if let Some(place) = block.get_mut(CHECKSUM_AT..CHECKSUM_AT + 4) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        block
    }
}

/// CRC-32C as the kernel has it: not inverted at the end. It is for 3 KB once a disk; a table would not pay.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_usual_nine_digits_is_the_published_one() {
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }
}
