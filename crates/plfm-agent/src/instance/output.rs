//! What a workload writes: frames in two files, the older of which is given up when the newer is full.
//!
//! ```text
//! output.frames.1   [older start .. start)
//! output.frames     [start .. end)             written here
//! ```
//!
//! Offsets count all bytes ever written, so a reader knows what it has missed. Writes go to the page cache and are
//! not synced: output is worth keeping, not worth waiting for. What a disk refuses is lost, and the log says how much.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use plfm_guest_protocol::{FrameDecoder, FrameError, FrameType, encode_frame};
use plfm_vmm::VsockListener;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
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
    /// Bytes that could not be written since the last that could.
    lost: u64,
    /// The file may have part of a frame after `end`.
    torn: bool,
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
            start,
            end,
            ..Writer::default()
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

    /// Adds one whole frame, and before it a note of what could not be added since the last one.
    ///
    /// After an error the log is as it was: nothing of the frame is in it, and it counts as lost.
    pub fn append(&self, frame: &[u8]) -> std::io::Result<()> {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let added = match writer.note_of_loss() {
            Some(note) => self.add(&mut writer, &[note.as_slice(), frame].concat()),
            None => self.add(&mut writer, frame),
        };
        match added {
            Ok(()) => writer.lost = 0,
            Err(_) => writer.lost += frame.len() as u64,
        }
        added
    }

    fn add(&self, writer: &mut Writer, bytes: &[u8]) -> std::io::Result<()> {
        if writer.file.is_some() && writer.end - writer.start >= FILE_BYTES_MAX {
            fs::rename(self.current(), self.older())?;
            writer.file = None;
            writer.older_start = writer.start;
            writer.start = writer.end;
        }
        writer.write(&self.current(), bytes)?;
        let end = writer.end;
        // Whether it is closed is not for a writer to say.
        self.0.extent.send_modify(|extent| extent.end = end);
        Ok(())
    }

    /// There will be no more.
    pub fn close(&self) {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = writer.note_of_loss()
            && let Err(error) = self.add(&mut writer, &note)
        {
            warn!(
                lost_bytes = writer.lost,
                "the end of a workload's output is lost: {error}"
            );
        }
        writer.lost = 0;
        drop(writer);
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

impl Writer {
    fn note_of_loss(&self) -> Option<Vec<u8>> {
        let note = format!("[plfm: {} bytes of output could not be written]\n", self.lost);
        (self.lost > 0).then(|| encode_frame(FrameType::Stderr, note.as_bytes()))
    }

    /// Writes all of `bytes`, or nothing: a part of a frame would make nonsense of all that follow.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let whole = self.end - self.start;
        let file = match &mut self.file {
            Some(file) => file,
            None => self
                .file
                .insert(File::options().create(true).append(true).open(path)?),
        };
        if self.torn {
            file.set_len(whole)?;
            self.torn = false;
        }
        if let Err(error) = file.write_all(bytes) {
            self.torn = file.set_len(whole).is_err();
            return Err(error);
        }
        self.end += bytes.len() as u64;
        Ok(())
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

/// Takes the workload's output until its last frame, or until the guest is gone and all that it sent is read.
///
/// `gone` is for a guest that never dials: without a connection there is nothing to see its end by.
pub async fn collect(listener: VsockListener, log: OutputLog, gone: CancellationToken) {
    let accepted = tokio::select! {
        biased;
        accepted = listener.accept() => accepted,
        () = gone.cancelled() => return,
    };
    // One connection is all there is: the next that dials would be the workload, not guest init.
    drop(listener);
    let mut stream = match accepted {
        Ok(stream) => stream,
        Err(error) => return warn!("cannot take a workload's output: {error}"),
    };
    let mut decoder = FrameDecoder::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        decoder.push(buffer.get(..length).unwrap_or_default());
        match keep_frames(&mut decoder, &log) {
            Ok(Kept::More) => {}
            Ok(Kept::Last) => return log.close(),
            Err(error) => return warn!("a workload's output is broken: {error}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kept {
    More,
    Last,
}

/// Keeps all whole frames. What cannot be written is lost, and the program goes on: the log's next frame says so.
fn keep_frames(decoder: &mut FrameDecoder, log: &OutputLog) -> Result<Kept, FrameError> {
    while let Some(frame) = decoder.next_frame()? {
        match frame.kind {
            FrameType::Stdout | FrameType::Stderr => {
                if let Err(error) = log.append(&encode_frame(frame.kind, &frame.payload)) {
                    warn!("cannot keep a workload's output: {error}");
                }
            }
            FrameType::Stdin | FrameType::Control => {}
            FrameType::Exit => return Ok(Kept::Last),
        }
    }
    Ok(Kept::More)
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

    #[tokio::test]
    async fn a_late_frame_does_not_open_a_closed_log_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = OutputLog::new(dir.path());
        log.append(b"one").unwrap();
        log.close();
        log.append(b"two").unwrap();
        let mut reader = log.read();
        assert_eq!(reader.next(true).await.unwrap().unwrap(), b"onetwo");
        let extent = *reader.extent.borrow();
        assert!(extent.closed, "a follower would wait for ever");
    }

    fn note_of(bytes: usize) -> Vec<u8> {
        let note = format!("[plfm: {bytes} bytes of output could not be written]\n");
        encode_frame(FrameType::Stderr, note.as_bytes())
    }

    #[tokio::test]
    async fn what_the_disk_refused_is_told_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let log = OutputLog::new(dir.path());
        let obstacle = dir.path().join("output.frames");
        fs::create_dir(&obstacle).unwrap();
        log.append(b"lost").unwrap_err();
        log.append(b"lost too").unwrap_err();
        fs::remove_dir(&obstacle).unwrap();
        log.append(b"kept").unwrap();
        assert_eq!(
            drain(log.read()).await,
            [note_of(12).as_slice(), b"kept"].concat()
        );
    }

    #[tokio::test]
    async fn what_was_lost_at_the_end_is_told_at_the_close() {
        let dir = tempfile::tempdir().unwrap();
        let log = OutputLog::new(dir.path());
        let obstacle = dir.path().join("output.frames");
        fs::create_dir(&obstacle).unwrap();
        log.append(b"lost").unwrap_err();
        fs::remove_dir(&obstacle).unwrap();
        log.close();
        assert_eq!(drain(log.read()).await, note_of(4));
    }

    /// Names this process as one whose files have at most 4 KiB.
    const SMALL_FILES: &str = "PLFM_TEST_SMALL_FILES";

    /// The limit is a process's, so the process is one of its own: this test again, under a shell's `ulimit`.
    #[test]
    fn a_frame_that_fits_in_part_leaves_nothing_behind() {
        if std::env::var_os(SMALL_FILES).is_some() {
            return write_beyond_the_limit();
        }
        // The signal is ignored, as the agent's disk has none: the write fails with an error.
        let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact \"$1\"";
        let name = "instance::output::tests::a_frame_that_fits_in_part_leaves_nothing_behind";
        let status = std::process::Command::new("sh")
            .args(["-c", limited])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(SMALL_FILES, "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    }

    fn write_beyond_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let log = OutputLog::new(dir.path());
        let length = || fs::metadata(dir.path().join("output.frames")).unwrap().len();
        log.append(&[1; 3_000]).unwrap();
        // The limit is 4 or 8 KiB: the unit of `ulimit -f` is the shell's.
        log.append(&[2; 6_000]).unwrap_err();
        assert_eq!(length(), 3_000);
        log.append(&[3; 100]).unwrap();
        assert_eq!(length(), 3_000 + note_of(6_000).len() as u64 + 100);
    }

    fn listen(dir: &Path) -> VsockListener {
        plfm_vmm::VsockPath::in_dir(dir).unwrap().listen(1).unwrap()
    }

    #[tokio::test]
    async fn a_collection_ends_with_a_guest_that_never_dialled() {
        let dir = tempfile::tempdir().unwrap();
        let gone = CancellationToken::new();
        let (listener, log) = (listen(dir.path()), OutputLog::new(dir.path()));
        let collection = tokio::spawn(collect(listener, log, gone.clone()));
        gone.cancel();
        collection.await.unwrap();
    }

    #[tokio::test]
    async fn what_a_guest_sent_before_it_was_gone_is_kept() {
        use tokio::io::AsyncWriteExt as _;
        let dir = tempfile::tempdir().unwrap();
        let gone = CancellationToken::new();
        let (listener, log) = (listen(dir.path()), OutputLog::new(dir.path()));
        let frame = encode_frame(FrameType::Stdout, b"last words");
        let mut guest = tokio::net::UnixStream::connect(dir.path().join("v.sock_1"))
            .await
            .unwrap();
        guest.write_all(&frame).await.unwrap();
        drop(guest);
        gone.cancel();
        collect(listener, log.clone(), gone).await;
        assert_eq!(drain(log.read()).await, frame);
    }

    #[tokio::test]
    async fn a_second_connection_finds_nobody() {
        use tokio::io::AsyncWriteExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (listener, log) = (listen(dir.path()), OutputLog::new(dir.path()));
        let socket = dir.path().join("v.sock_1");
        let collection = tokio::spawn(collect(listener, log.clone(), CancellationToken::new()));
        let mut guest = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let frame = encode_frame(FrameType::Stdout, b"up");
        guest.write_all(&frame).await.unwrap();
        assert_eq!(log.read().next(true).await.unwrap().unwrap(), frame);
        tokio::net::UnixStream::connect(&socket).await.unwrap_err();
        drop(guest);
        collection.await.unwrap();
    }
}
