//! The guest's serial console: a bounded file, a short tail in memory, and an eye for kernel panics.
//!
//! Everything on the console is the guest's own text. It is kept for people to read and proves nothing: a
//! workload can print a panic as well as a kernel can.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// What is kept in memory: the whole of a quiet boot, or the stack trace of a panic.
const TAIL_BYTES_MAX: usize = 16 * 1024;
/// A panic's message is one line; what is longer was not written by the kernel.
const PANIC_BYTES_MAX: usize = 256;
/// One read of the pipe.
const READ_BYTES_MAX: usize = 16 * 1024;

const PANIC: &[u8] = b"Kernel panic - not syncing";
const TRUNCATED: &[u8] = b"\n[console output beyond the limit was dropped]\n";

/// What has come out of the console so far. Clones see the same console.
#[derive(Debug, Clone, Default)]
pub(crate) struct Console(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    tail: VecDeque<u8>,
    panic: PanicScanner,
    truncated: bool,
}

impl Console {
    /// The last bytes, as text.
    pub(crate) fn tail(&self) -> String {
        let state = self.lock();
        let bytes: Vec<u8> = state.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The kernel panic's line, if there was one.
    pub(crate) fn kernel_panic(&self) -> Option<String> {
        self.lock().panic.message()
    }

    /// The file does not have everything.
    pub(crate) fn is_truncated(&self) -> bool {
        self.lock().truncated
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock leaves the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.panic.scan(bytes);
        state.tail.extend(bytes);
        let excess = state.tail.len().saturating_sub(TAIL_BYTES_MAX);
        state.tail.drain(..excess);
    }

    fn note_truncated(&self) {
        self.lock().truncated = true;
    }

    /// Reads to the end, whatever happens to the file: a console that nobody reads would stop the guest.
    pub(crate) async fn capture(self, mut from: impl AsyncRead + Unpin, mut log: ConsoleLog) {
        let mut buffer = vec![0; READ_BYTES_MAX];
        loop {
            let count = match from.read(&mut buffer).await {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::warn!(log = %log.path.display(), %error, "console can't be read");
                    return;
                }
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            self.note(bytes);
            if log.append(bytes).await == Appended::Dropped {
                self.note_truncated();
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Appended {
    Whole,
    Dropped,
}

/// `console.log`, of limited size.
#[derive(Debug)]
pub(crate) struct ConsoleLog {
    path: PathBuf,
    file: File,
    room: u64,
    closed: bool,
}

impl ConsoleLog {
    /// Makes the file empty. A link with its name is not followed.
    pub(crate) fn create(path: PathBuf, bytes_max: u64) -> io::Result<ConsoleLog> {
        let file = create_private(&path)?;
        Ok(ConsoleLog {
            path,
            file: File::from_std(file),
            room: bytes_max,
            closed: false,
        })
    }

    async fn append(&mut self, bytes: &[u8]) -> Appended {
        if self.closed {
            return Appended::Dropped;
        }
        let fits = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        let kept = bytes.get(..fits).unwrap_or_default();
        self.room = self.room.saturating_sub(u64::try_from(fits).unwrap_or(u64::MAX));
        self.closed = fits < bytes.len();
        let marker = if self.closed { TRUNCATED } else { b"" };
        if let Err(error) = self.write(kept, marker).await {
            tracing::warn!(log = %self.path.display(), %error, "console log can't be written");
            self.closed = true;
        }
        if self.closed {
            Appended::Dropped
        } else {
            Appended::Whole
        }
    }

    async fn write(&mut self, kept: &[u8], marker: &[u8]) -> io::Result<()> {
        self.file.write_all(kept).await?;
        self.file.write_all(marker).await?;
        self.file.flush().await
    }
}

fn create_private(path: &Path) -> io::Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Finds the kernel's panic line in a stream of chunks.
#[derive(Debug, Default)]
struct PanicScanner {
    /// Bytes of [`PANIC`] that the stream ends with so far.
    matched: usize,
    /// The rest of the line, once the marker was seen.
    rest: Option<Vec<u8>>,
    complete: bool,
}

impl PanicScanner {
    fn scan(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match &mut self.rest {
                _ if self.complete => return,
                Some(rest) => {
                    if matches!(byte, b'\n' | b'\r') || PANIC.len() + rest.len() == PANIC_BYTES_MAX {
                        self.complete = true;
                    } else {
                        rest.push(byte);
                    }
                }
                None => {
                    // The first letter occurs nowhere else in the marker, so a mismatch can only begin it anew.
                    self.matched = match PANIC.get(self.matched) {
                        Some(&expected) if expected == byte => self.matched + 1,
                        _ => usize::from(PANIC.first() == Some(&byte)),
                    };
                    if self.matched == PANIC.len() {
                        self.rest = Some(Vec::new());
                    }
                }
            }
        }
    }

    fn message(&self) -> Option<String> {
        let rest = self.rest.as_ref()?;
        Some(format!(
            "{}{}",
            String::from_utf8_lossy(PANIC),
            String::from_utf8_lossy(rest)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(chunks: &[&[u8]]) -> Option<String> {
        let mut scanner = PanicScanner::default();
        for chunk in chunks {
            scanner.scan(chunk);
        }
        scanner.message()
    }

    #[test]
    fn a_panic_is_found_wherever_the_reads_split_it() {
        let text = b"[    0.5] Kernel panic - not syncing: VFS: no root\r\n[    0.6] Kernel panic - not syncing: two\n";
        for first in 0..text.len() {
            for second in first..text.len() {
                let chunks = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(
                    scan(&chunks).as_deref(),
                    Some("Kernel panic - not syncing: VFS: no root")
                );
            }
        }
    }

    #[test]
    fn only_the_whole_marker_is_a_panic() {
        assert_eq!(
            scan(&[
                b"Kernel panic - not synchronous",
                b"Kernel pan",
                b"\nic - not syncing"
            ]),
            None
        );
        assert_eq!(
            scan(&[b"KKernel panic - not syncing"]).as_deref(),
            Some("Kernel panic - not syncing")
        );
        assert_eq!(
            scan(&[b"Kernel paniKernel panic - not syncing: a"]).as_deref(),
            Some("Kernel panic - not syncing: a")
        );
    }

    #[test]
    fn a_panic_without_an_end_is_cut() {
        let message = scan(&[PANIC, &[b'x'; 10_000]]).unwrap();
        assert_eq!(message.len(), PANIC_BYTES_MAX);
    }

    #[tokio::test]
    async fn the_log_is_cut_at_its_limit_and_the_tail_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let console = Console::default();
        let log = ConsoleLog::create(path.clone(), 10).unwrap();
        let output = [b"0123456789".as_slice(), b"abc", &[b'.'; 40_000], b"end"].concat();
        console.clone().capture(output.as_slice(), log).await;
        assert!(console.is_truncated());
        assert_eq!(std::fs::read(&path).unwrap(), [b"0123456789", TRUNCATED].concat());
        assert_eq!(console.tail().len(), TAIL_BYTES_MAX);
        assert!(console.tail().ends_with(".end"));
    }

    #[tokio::test]
    async fn output_that_just_fits_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let console = Console::default();
        console
            .clone()
            .capture(
                b"0123456789".as_slice(),
                ConsoleLog::create(path.clone(), 10).unwrap(),
            )
            .await;
        assert!(!console.is_truncated());
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
    }

    #[tokio::test]
    async fn a_log_that_can_not_be_written_does_not_stop_the_console() {
        let console = Console::default();
        let log = ConsoleLog::create("/dev/full".into(), 1000).unwrap();
        console.clone().capture(b"hello".as_slice(), log).await;
        assert!(console.is_truncated());
        assert_eq!(console.tail(), "hello");
    }
}
