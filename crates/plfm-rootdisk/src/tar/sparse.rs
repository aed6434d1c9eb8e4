//! Maps of sparse files: GNU's old format in headers, and 0.0, 0.1 and 1.0 in PAX records.

use crate::limits::SPARSE_SEGMENTS_MAX;
use crate::tar::header::until_nul;
use crate::tar::number::{parse_decimal, parse_unsigned};
use crate::tar::{Segment, TarError};

/// The `GNU.sparse.*` records of an extended header.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    major: Option<u64>,
    minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    size_bytes: Option<u64>,
    /// Offsets and sizes in turn.
    numbers: Vec<u64>,
    has_map: bool,
}

/// Which kind of map an entry has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SparseFormat {
    None,
    /// The map is in the records (0.0 and 0.1).
    InRecords,
    /// The map is before the data (1.0).
    InData,
}

impl SparseRecords {
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), TarError> {
        let number = || parse_decimal(value).ok_or(TarError::Sparse("a record is not a number"));
        match name {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" => self.name = Some(until_nul(value).to_vec()),
            b"size" | b"realsize" => self.size_bytes = Some(number()?),
            b"offset" if self.numbers.len().is_multiple_of(2) => self.push(number()?)?,
            b"numbytes" if !self.numbers.len().is_multiple_of(2) => self.push(number()?)?,
            b"offset" | b"numbytes" => return Err(TarError::Sparse("offsets and sizes do not take turns")),
            b"map" => {
                self.has_map = true;
                self.numbers.clear();
                for text in value.split(|b| *b == b',').filter(|_| !value.is_empty()) {
                    self.push(parse_decimal(text).ok_or(TarError::Sparse("the map is not numbers"))?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, number: u64) -> Result<(), TarError> {
        self.has_map = true;
        if self.numbers.len() >= 2 * SPARSE_SEGMENTS_MAX {
            return Err(TarError::Sparse("more segments than are taken"));
        }
        self.numbers.push(number);
        Ok(())
    }

    pub(super) fn format(&self) -> Result<SparseFormat, TarError> {
        match (self.major, self.minor) {
            (Some(1), Some(0)) => Ok(SparseFormat::InData),
            (Some(0), Some(0 | 1)) => Ok(SparseFormat::InRecords),
            (None, None) if self.has_map => Ok(SparseFormat::InRecords),
            (None, None) => Ok(SparseFormat::None),
            _ => Err(TarError::Sparse("a version that is not known")),
        }
    }

    pub(super) fn size_bytes(&self) -> Result<u64, TarError> {
        self.size_bytes
            .ok_or(TarError::Sparse("the file's size is missing"))
    }

    pub(super) fn segments(&self) -> Result<Vec<Segment>, TarError> {
        pair(&self.numbers)
    }
}

/// Offsets and sizes in turn, as segments.
pub(super) fn pair(numbers: &[u64]) -> Result<Vec<Segment>, TarError> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(TarError::Sparse("an offset without a size"));
    }
    Ok(pairs
        .iter()
        .map(|[offset, size_bytes]| Segment {
            offset: *offset,
            size_bytes: *size_bytes,
        })
        .collect())
}

/// The segments in one run of the old format's 24-byte places; an empty place ends the map.
pub(super) fn parse_places(places: &[u8], segments: &mut Vec<Segment>) -> Result<(), TarError> {
    for place in places.as_chunks::<24>().0 {
        let (offset, size) = place.split_at(12);
        if offset.first() == Some(&0) {
            return Ok(());
        }
        if segments.len() >= SPARSE_SEGMENTS_MAX {
            return Err(TarError::Sparse("more segments than are taken"));
        }
        segments.push(Segment {
            offset: parse_unsigned(offset, "sparse offset")?,
            size_bytes: parse_unsigned(size, "sparse size")?,
        });
    }
    Ok(())
}

/// Checks a map against the file's size and the bytes in the archive, and drops segments of nothing.
pub(super) fn check(segments: &mut Vec<Segment>, size_bytes: u64, stored_bytes: u64) -> Result<(), TarError> {
    let mut end = 0u64;
    let mut sum = 0u64;
    for segment in segments.iter() {
        if segment.offset < end {
            return Err(TarError::Sparse("segments overlap or are out of order"));
        }
        end = segment
            .offset
            .checked_add(segment.size_bytes)
            .ok_or(TarError::Sparse("a segment without an end"))?;
        sum = sum.saturating_add(segment.size_bytes);
    }
    if end > size_bytes {
        return Err(TarError::Sparse("a segment past the end of the file"));
    }
    if sum != stored_bytes {
        return Err(TarError::Sparse("the segments are not what the archive holds"));
    }
    segments.retain(|segment| segment.size_bytes > 0);
    Ok(())
}
