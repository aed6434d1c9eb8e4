//! What a workload writes: frames in two files, the older of which is given up when the newer is full.
//!
//! ```text
//! output.frames.1   [older start .. start)
//! output.frames     [start .. end)             written here
//! ```
//!
//! Offsets count all bytes ever written, so a reader knows what it has missed. Writes go to the page cache and are
//! not synced: output is worth keeping, not worth waiting for.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use plfm_guest_protocol::{FrameDecoder, FrameType, encode_frame};
use plfm_vmm::VsockListener;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tracing::warn;

/// Size at which a file is full, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How much a reader gets at once, in bytes.
const READ_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    end: u64,
    closed: bool,
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct OutputLog(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    writer: Mutex<Writer>,
    extent: watch::Sender<Extent>,
}

#[derive(Default)]
struct Writer {
    file: Option<File>,
    older_start: u64,
    start: u64,
    end: u64,
}

impl OutputLog {
    /// An empty log in `dir`, whose files appear with the first write.
    pub fn new(dir: &Path) -> Self {
        let extent = watch::Sender::new(Extent {
            end: 0,
            closed: false,
        });
        Self(Arc::new(Shared {
            dir: dir.to_owned(),
            writer: Mutex::default(),
            extent,
        }))
    }

    /// The log of an instance that is over.
    pub fn ended(dir: &Path) -> Self {
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
        let start = length(dir.join("output.frames.1"));
        let end = start + length(dir.join("output.frames"));
        let writer = Mutex::new(Writer {
            file: None,
            older_start: 0,
            start,
            end,
        });
        Self(Arc::new(Shared {
            dir: dir.to_owned(),
            writer,
            extent: watch::Sender::new(Extent { end, closed: true }),
        }))
    }

    fn current(&self) -> PathBuf {
        self.0.dir.join("output.frames")
    }

    fn older(&self) -> PathBuf {
        self.0.dir.join("output.frames.1")
    }

    /// Adds one whole frame.
    pub fn append(&self, frame: &[u8]) -> std::io::Result<()> {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.file.is_some() && writer.end - writer.start >= FILE_BYTES_MAX {
            writer.file = None;
            fs::rename(self.current(), self.older())?;
            writer.older_start = writer.start;
            writer.start = writer.end;
        }
        let file = match &mut writer.file {
            Some(file) => file,
            None => writer.file.insert(File::create(self.current())?),
        };
        file.write_all(frame)?;
        writer.end += frame.len() as u64;
        self.0.extent.send_replace(Extent {
            end: writer.end,
            closed: false,
        });
        Ok(())
    }

    /// There will be no more.
    pub fn close(&self) {
        self.0.extent.send_modify(|extent| extent.closed = true);
    }

    /// A reader from the beginning of what is kept.
    pub fn read(&self) -> OutputReader {
        OutputReader {
            log: self.clone(),
            extent: self.0.extent.subscribe(),
            offset: 0,
        }
    }

    /// Bytes from `offset`, and the offset after them.
    fn read_at(&self, offset: u64) -> std::io::Result<(Vec<u8>, u64)> {
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if offset < writer.older_start {
            let note = format!(
                "[plfm: {} bytes of output were not kept]\n",
                writer.older_start - offset
            );
            return Ok((
                encode_frame(FrameType::Stderr, note.as_bytes()),
                writer.older_start,
            ));
        }
        let (path, start, end) = if offset < writer.start {
            (self.older(), writer.older_start, writer.start)
        } else {
            (self.current(), writer.start, writer.end)
        };
        if offset >= end {
            return Ok((Vec::new(), offset));
        }
        // Opened under the lock, so that it is this file even if it is renamed afterwards.
        let mut file = File::open(path)?;
        drop(writer);
        file.seek(SeekFrom::Start(offset - start))?;
        let mut bytes = vec![0; READ_BYTES_MAX.min(usize::try_from(end - offset).unwrap_or(READ_BYTES_MAX))];
        let length = file.read(&mut bytes)?;
        bytes.truncate(length);
        Ok((bytes, offset + length as u64))
    }
}

/// Reads a log from its beginning.
pub struct OutputReader {
    log: OutputLog,
    extent: watch::Receiver<Extent>,
    offset: u64,
}

impl OutputReader {
    /// The next bytes. `None`: the end, or, if not `follow`ing, the end of what is there now.
    pub async fn next(&mut self, follow: bool) -> Option<std::io::Result<Vec<u8>>> {
        loop {
            let Extent { end, closed } = *self.extent.borrow_and_update();
            if self.offset < end {
                return match self.log.read_at(self.offset) {
                    Ok((bytes, next)) => {
                        self.offset = next;
                        Some(Ok(bytes))
                    }
                    Err(error) => Some(Err(error)),
                };
            }
            if closed || !follow || self.extent.changed().await.is_err() {
                return None;
            }
        }
    }
}

/// Takes the workload's output until its last frame, or until the guest is gone.
pub async fn collect(listener: VsockListener, log: OutputLog) {
    let Ok(mut stream) = listener.accept().await else {
        return;
    };
    let mut decoder = FrameDecoder::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        decoder.push(buffer.get(..length).unwrap_or_default());
        loop {
            match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let is_last = frame.kind == FrameType::Exit;
                    let kept = match frame.kind {
                        FrameType::Stdout | FrameType::Stderr => {
                            log.append(&encode_frame(frame.kind, &frame.payload))
                        }
                        FrameType::Stdin | FrameType::Control | FrameType::Exit => Ok(()),
                    };
                    if let Err(error) = kept {
                        warn!("cannot keep a workload's output: {error}");
                        return;
                    }
                    if is_last {
                        log.close();
                        return;
                    }
                }
                Err(error) => {
                    warn!("a workload's output is broken: {error}");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn drain(mut reader: OutputReader) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = reader.next(false).await {
            all.extend(bytes.unwrap());
        }
        all
    }

    #[tokio::test]
    async fn a_reader_gets_what_was_written_before_and_after_it_came() {
        let dir = tempfile::tempdir().unwrap();
        let log = OutputLog::new(dir.path());
        log.append(b"one").unwrap();
        let mut reader = log.read();
        assert_eq!(reader.next(true).await.unwrap().unwrap(), b"one");
        let writer = log.clone();
        let waiting = tokio::spawn(async move { reader.next(true).await.map(Result::unwrap) });
        writer.append(b"two").unwrap();
        assert_eq!(waiting.await.unwrap(), Some(b"two".to_vec()));
    }

    #[tokio::test]
    async fn a_full_log_gives_up_its_oldest_part_and_says_how_much() {
        let dir = tempfile::tempdir().unwrap();
        let log = OutputLog::new(dir.path());
        let frame = vec![7; 1024 * 1024];
        for _ in 0..40 {
            log.append(&frame).unwrap();
        }
        let all = drain(log.read()).await;
        let note = b"[plfm: 16777216 bytes of output were not kept]\n";
        assert_eq!(&all[5..5 + note.len()], note);
        assert_eq!(all.len(), 5 + note.len() + 24 * 1024 * 1024);
    }

    #[tokio::test]
    async fn an_ended_log_is_read_from_its_files() {
        let dir = tempfile::tempdir().unwrap();
        OutputLog::new(dir.path()).append(b"kept").unwrap();
        assert_eq!(drain(OutputLog::ended(dir.path()).read()).await, b"kept");
        let mut reader = OutputLog::ended(dir.path()).read();
        reader.next(true).await.unwrap().unwrap();
        assert!(reader.next(true).await.is_none(), "following an ended log ends");
    }
}
