//! From a stream of bytes to entries.

use std::io::{self, Read};

use crate::limits::{EXTENDED_HEADER_BYTES_MAX, SPARSE_SEGMENTS_MAX};
use crate::tar::header::{Header, until_nul};
use crate::tar::number::parse_decimal;
use crate::tar::pax::Pax;
use crate::tar::sparse::{self, SparseFormat};
use crate::tar::{BLOCK_BYTES, Entry, EntryKind, Mtime, Segment, TarError};

/// Reads a tar archive entry by entry.
pub(crate) struct TarReader<R> {
    stream: R,
    /// Bytes of the current entry's data that were not read yet.
    unread_bytes: u64,
    padding_bytes: u64,
    /// Bytes read of the archive so far.
    position: u64,
    is_over: bool,
}

/// What headers before an entry say about it.
#[derive(Default)]
struct Preface {
    pax: Option<Pax>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            unread_bytes: 0,
            padding_bytes: 0,
            position: 0,
            is_over: false,
        }
    }

    /// The stream, at whatever place it is; the archive's end may be before the stream's.
    pub(crate) fn into_stream(self) -> R {
        self.stream
    }

    /// Where in the archive the current entry's data begins, until some of it was read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next entry, past what is left of the last one's data.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut preface = Preface::default();
        while let Some(block) = self.next_header()? {
            let header = Header::parse(&block)?;
            match header.kind() {
                b'L' => preface.long_path = Some(self.read_long_text(&header)?),
                b'K' => preface.long_link = Some(self.read_long_text(&header)?),
                b'x' | b'X' => preface.pax = Some(Pax::parse(&self.read_extended(&header)?)?),
                // Global headers and volume labels say nothing that becomes part of a layer.
                b'g' | b'V' => drop(self.read_extended(&header)?),
                _ => return self.entry(&header, preface).map(Some),
            }
        }
        Ok(None)
    }

    /// Reads some of the current entry's data; 0 at its end.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let room = usize::try_from(self.unread_bytes)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(part) = buffer.get_mut(..room).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        let count = read_some(&mut self.stream, part)?;
        if count == 0 {
            return Err(TarError::Truncated("an entry's data"));
        }
        self.advance(count);
        self.unread_bytes = self.unread_bytes.saturating_sub(count as u64);
        Ok(count)
    }

    fn advance(&mut self, count: usize) {
        self.position = self.position.saturating_add(count as u64);
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let mut left = self.unread_bytes.saturating_add(self.padding_bytes);
        let mut buffer = [0; 16 << 10];
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..room).unwrap_or_default();
            match read_some(&mut self.stream, part)? {
                // The padding of the last entry may be missing: nothing is lost with it.
                0 if left <= self.padding_bytes => self.is_over = true,
                0 => return Err(TarError::Truncated("an entry's data")),
                count => {
                    self.advance(count);
                    left = left.saturating_sub(count as u64);
                    continue;
                }
            }
            break;
        }
        self.unread_bytes = 0;
        self.padding_bytes = 0;
        Ok(())
    }

    /// The next block that is a header; nothing at the archive's end: two blocks of zeros, or no more bytes.
    fn next_header(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, TarError> {
        self.skip_rest()?;
        if self.is_over {
            return Ok(None);
        }
        let first = self.read_block()?;
        if let Some(block) = first.filter(|block| block.iter().any(|b| *b != 0)) {
            return Ok(Some(block));
        }
        self.is_over = true;
        if first.is_some()
            && self
                .read_block()?
                .is_some_and(|block| block.iter().any(|b| *b != 0))
        {
            return Err(TarError::Checksum);
        }
        Ok(None)
    }

    fn read_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, TarError> {
        let mut block = [0; BLOCK_BYTES];
        match self.fill(&mut block)? {
            0 => Ok(None),
            BLOCK_BYTES => Ok(Some(block)),
            _ => Err(TarError::Truncated("a header")),
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while let Some(part) = buffer.get_mut(filled..).filter(|part| !part.is_empty()) {
            match read_some(&mut self.stream, part)? {
                0 => break,
                count => filled = filled.saturating_add(count),
            }
        }
        self.advance(filled);
        Ok(filled)
    }

    fn expect_data(&mut self, size_bytes: u64) {
        self.unread_bytes = size_bytes;
        self.padding_bytes = size_bytes
            .next_multiple_of(BLOCK_BYTES as u64)
            .saturating_sub(size_bytes);
    }

    fn read_extended(&mut self, header: &Header<'_>) -> Result<Vec<u8>, TarError> {
        let size_bytes = header.size_bytes()?;
        if size_bytes > EXTENDED_HEADER_BYTES_MAX {
            return Err(TarError::ExtendedSize {
                size_bytes,
                max: EXTENDED_HEADER_BYTES_MAX,
            });
        }
        self.expect_data(size_bytes);
        let mut data = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read_data(&mut buffer)? {
                0 => return Ok(data),
                count => data.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            }
        }
    }

    fn read_long_text(&mut self, header: &Header<'_>) -> Result<Vec<u8>, TarError> {
        Ok(until_nul(&self.read_extended(header)?).to_vec())
    }

    fn entry(&mut self, header: &Header<'_>, preface: Preface) -> Result<Entry, TarError> {
        let pax = preface.pax.unwrap_or_default();
        let path = preface.long_path.unwrap_or_else(|| header.path());
        let path = pax.path.unwrap_or(path);
        let kind = entry_kind(header.kind(), &path)?;
        let stored_bytes = match kind {
            EntryKind::File => pax.size_bytes.map_or_else(|| header.size_bytes(), Ok)?,
            // A size in the header of a thing without data means nothing (directories of old writers have one).
            _ => 0,
        };
        if stored_bytes > u64::MAX / 2 {
            return Err(TarError::Number { field: "size" });
        }
        let mtime = Mtime {
            seconds: header.mtime_seconds()?,
            nanoseconds: 0,
        };
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let mut entry = Entry {
            path,
            link: pax.link.or(preface.long_link).unwrap_or_else(|| header.link()),
            kind,
            mode: header.mode()?,
            uid: narrow(pax.uid.map_or_else(|| header.uid(), Ok)?, "uid")?,
            gid: narrow(pax.gid.map_or_else(|| header.gid(), Ok)?, "gid")?,
            mtime: pax.mtime.unwrap_or(mtime),
            device_major: if is_device {
                narrow(header.device_major()?, "device major")?
            } else {
                0
            },
            device_minor: if is_device {
                narrow(header.device_minor()?, "device minor")?
            } else {
                0
            },
            xattrs: pax.xattrs,
            size_bytes: stored_bytes,
            segments: whole(stored_bytes),
        };
        self.expect_data(stored_bytes);
        if header.kind() == b'S' {
            self.read_old_sparse(header, &mut entry)?;
        } else if kind == EntryKind::File && pax.sparse.format()? != SparseFormat::None {
            entry.size_bytes = pax.sparse.size_bytes()?;
            entry.segments = match pax.sparse.format()? {
                SparseFormat::InData => self.read_map_in_data()?,
                SparseFormat::InRecords | SparseFormat::None => pax.sparse.segments()?,
            };
            entry.path = pax.sparse.name.unwrap_or(entry.path);
            sparse::check(&mut entry.segments, entry.size_bytes, self.unread_bytes)?;
        }
        Ok(entry)
    }

    /// The old format's map: in the header, then in as many blocks as say that another one follows.
    fn read_old_sparse(&mut self, header: &Header<'_>, entry: &mut Entry) -> Result<(), TarError> {
        let mut segments = Vec::new();
        sparse::parse_places(header.sparse_map(), &mut segments)?;
        let mut is_continued = header.is_sparse_map_continued();
        while is_continued {
            let block = self.read_block()?.ok_or(TarError::Truncated("a sparse map"))?;
            let count = segments.len();
            sparse::parse_places(block.get(..21 * 24).unwrap_or_default(), &mut segments)?;
            is_continued = block.get(504).is_some_and(|b| *b != 0);
            if is_continued && segments.len() == count {
                return Err(TarError::Sparse("a map that goes on without segments"));
            }
        }
        entry.size_bytes = header.sparse_size_bytes()?;
        entry.segments = segments;
        sparse::check(&mut entry.segments, entry.size_bytes, self.unread_bytes)
    }

    /// Format 1.0: a count, then offsets and sizes, each a decimal with a newline, padded to a block.
    fn read_map_in_data(&mut self) -> Result<Vec<Segment>, TarError> {
        let mut map = SparseLines::default();
        while !map.is_complete() {
            let mut block = [0; BLOCK_BYTES];
            let mut filled = 0;
            while filled < BLOCK_BYTES {
                match self.read_data(block.get_mut(filled..).unwrap_or_default())? {
                    0 => return Err(TarError::Sparse("the map ends early")),
                    count => filled = filled.saturating_add(count),
                }
            }
            map.take(&block)?;
        }
        sparse::pair(&map.numbers)
    }
}

/// The lines of a map in format 1.0.
#[derive(Default)]
struct SparseLines {
    line: Vec<u8>,
    expected: Option<usize>,
    numbers: Vec<u64>,
}

impl SparseLines {
    fn is_complete(&self) -> bool {
        self.expected
            .is_some_and(|expected| self.numbers.len() >= expected)
    }

    fn take(&mut self, block: &[u8]) -> Result<(), TarError> {
        for byte in block {
            if self.is_complete() {
                break;
            }
            match byte {
                b'\n' => self.end_line()?,
                b'0'..=b'9' if self.line.len() < 20 => self.line.push(*byte),
                _ => return Err(TarError::Sparse("the map is not numbers")),
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), TarError> {
        let number = parse_decimal(&self.line).ok_or(TarError::Sparse("the map is not numbers"))?;
        self.line.clear();
        if self.expected.is_some() {
            self.numbers.push(number);
            return Ok(());
        }
        let count = usize::try_from(number).unwrap_or(usize::MAX);
        if count > SPARSE_SEGMENTS_MAX {
            return Err(TarError::Sparse("more segments than are taken"));
        }
        self.expected = Some(count.saturating_mul(2));
        Ok(())
    }
}

impl<R: Read + io::Seek> TarReader<io::BufReader<R>> {
    /// Leaves out the current entry's data without reading it.
    pub(crate) fn seek_past_data(&mut self) -> Result<(), TarError> {
        let over = i64::try_from(self.unread_bytes).map_err(|_| TarError::Number { field: "size" })?;
        self.stream.seek_relative(over).map_err(TarError::Read)?;
        self.position = self.position.saturating_add(self.unread_bytes);
        self.unread_bytes = 0;
        Ok(())
    }
}

fn entry_kind(kind: u8, path: &[u8]) -> Result<EntryKind, TarError> {
    Ok(match kind {
        // Before ustar a directory was a file whose name ends with a slash.
        0 if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => return Err(TarError::Kind(char::from(other))),
    })
}

fn whole(size_bytes: u64) -> Vec<Segment> {
    if size_bytes == 0 {
        Vec::new()
    } else {
        vec![Segment {
            offset: 0,
            size_bytes,
        }]
    }
}

fn narrow(number: u64, field: &'static str) -> Result<u32, TarError> {
    u32::try_from(number).map_err(|_| TarError::Number { field })
}

fn read_some(stream: &mut impl Read, buffer: &mut [u8]) -> Result<usize, TarError> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(TarError::Read),
        }
    }
}
