//! One header block of a tar archive.

use crate::tar::number::{parse_field, parse_unsigned};
use crate::tar::{BLOCK_BYTES, TarError};

/// A header block whose checksum holds.
pub(super) struct Header<'a>(&'a [u8; BLOCK_BYTES]);

impl<'a> Header<'a> {
    /// Takes a block as a header.
    pub(super) fn parse(block: &'a [u8; BLOCK_BYTES]) -> Result<Self, TarError> {
        let header = Self(block);
        let stored = parse_unsigned(header.field(148, 8), "checksum")?;
        let sum = |value: fn(u8) -> i64| -> i64 {
            let bytes = block.iter().enumerate();
            bytes
                .map(|(at, b)| value(if (148..156).contains(&at) { b' ' } else { *b }))
                .sum()
        };
        // Some old writers summed signed characters.
        let sums = [sum(i64::from), sum(|b| i64::from(i8::from_ne_bytes([b])))];
        if !sums.iter().any(|sum| u64::try_from(*sum) == Ok(stored)) {
            return Err(TarError::Checksum);
        }
        Ok(header)
    }

    fn field(&self, offset: usize, size: usize) -> &'a [u8] {
        self.0
            .get(offset..offset.saturating_add(size))
            .unwrap_or_default()
    }

    fn text(&self, offset: usize, size: usize) -> &'a [u8] {
        until_nul(self.field(offset, size))
    }

    /// The name, joined with ustar's prefix.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = self.text(345, 155);
        if self.field(257, 6) != b"ustar\0" || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or(0)
    }

    pub(super) fn mode(&self) -> Result<u16, TarError> {
        let mode = parse_unsigned(self.field(100, 8), "mode")? & 0o7777;
        u16::try_from(mode).map_err(|_| TarError::Number { field: "mode" })
    }

    pub(super) fn uid(&self) -> Result<u64, TarError> {
        parse_unsigned(self.field(108, 8), "uid")
    }

    pub(super) fn gid(&self) -> Result<u64, TarError> {
        parse_unsigned(self.field(116, 8), "gid")
    }

    pub(super) fn size_bytes(&self) -> Result<u64, TarError> {
        parse_unsigned(self.field(124, 12), "size")
    }

    pub(super) fn mtime_seconds(&self) -> Result<i64, TarError> {
        parse_field(self.field(136, 12), "mtime")
    }

    pub(super) fn device_major(&self) -> Result<u64, TarError> {
        parse_unsigned(self.field(329, 8), "device major")
    }

    pub(super) fn device_minor(&self) -> Result<u64, TarError> {
        parse_unsigned(self.field(337, 8), "device minor")
    }

    /// The four places of a GNU sparse map in the header itself.
    pub(super) fn sparse_map(&self) -> &'a [u8] {
        self.field(386, 4 * 24)
    }

    /// Whether blocks with more of the map follow.
    pub(super) fn is_sparse_map_continued(&self) -> bool {
        self.field(482, 1).first().is_some_and(|b| *b != 0)
    }

    pub(super) fn sparse_size_bytes(&self) -> Result<u64, TarError> {
        parse_unsigned(self.field(483, 12), "sparse size")
    }
}

/// The bytes before the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}
