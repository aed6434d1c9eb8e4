//! The contents of an image's files while its disk is built: one file without a name, written once, front to back.
//!
//! No name of the image ever becomes a name on the host: a content is an offset and a size.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How much is written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Bytes of a file that are in the spool; what lies between runs is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where in the file it begins.
    pub offset: u64,
    /// Where in the spool it is.
    pub spooled_at: u64,
    pub size_bytes: u64,
}

/// What a file holds. Runs are in order, do not overlap and are not empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Content {
    pub size_bytes: u64,
    pub runs: Vec<Run>,
}

/// Where contents are kept.
pub(crate) struct Spool {
    writer: io::BufWriter<File>,
    size_bytes: u64,
}

impl Spool {
    /// A spool on the file system of `directory`.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(directory)?;
        Ok(Self {
            writer: io::BufWriter::with_capacity(BUFFER_BYTES, file),
            size_bytes: 0,
        })
    }

    /// Where the next byte will be.
    pub(crate) fn position(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)?;
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Ends the writing.
    pub(crate) fn finish(mut self) -> io::Result<SpoolReader> {
        self.writer.flush()?;
        Ok(SpoolReader(
            self.writer.into_inner().map_err(io::IntoInnerError::into_error)?,
        ))
    }
}

/// A spool that is complete.
pub(crate) struct SpoolReader(File);

impl SpoolReader {
    /// Fills `buffer` with a file's bytes from `offset` on; what is in no run is zeros.
    pub(crate) fn read(&self, content: &Content, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        let end = offset.saturating_add(buffer.len() as u64);
        for run in &content.runs {
            let from = run.offset.max(offset);
            let to = run.offset.saturating_add(run.size_bytes).min(end);
            if from >= to {
                continue;
            }
            let place = index(from.saturating_sub(offset))?..index(to.saturating_sub(offset))?;
            let part = buffer.get_mut(place).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.0.read_exact_at(
                part,
                run.spooled_at.saturating_add(from.saturating_sub(run.offset)),
            )?;
        }
        Ok(())
    }

    /// Copies spooled bytes into a file, within the kernel where it can.
    pub(crate) fn copy_to(&self, spooled_at: u64, size_bytes: u64, to: &File, offset: u64) -> io::Result<()> {
        let (mut from, mut at, mut left) = (spooled_at, offset, size_bytes);
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(&self.0, Some(&mut from), to, Some(&mut at), room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => left = left.saturating_sub(count as u64),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return self.copy_by_hand(from, left, to, at),
            }
        }
        Ok(())
    }

    fn copy_by_hand(&self, mut from: u64, mut left: u64, to: &File, mut at: u64) -> io::Result<()> {
        let mut buffer = vec![0; 128 << 10];
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..room).unwrap_or_default();
            self.0.read_exact_at(part, from)?;
            to.write_all_at(part, at)?;
            from = from.saturating_add(room as u64);
            at = at.saturating_add(room as u64);
            left = left.saturating_sub(room as u64);
        }
        Ok(())
    }
}

fn index(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(|_| io::ErrorKind::InvalidInput.into())
}
