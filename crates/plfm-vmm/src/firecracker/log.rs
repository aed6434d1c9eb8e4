//! Firecracker's own log, over a named pipe: its last words, and how it says that it ended.
//!
//! By default the log is on standard output, where the guest's console is too; so it gets a way of its own. A pipe,
//! not a file: what nobody has read takes no room on a disk, and a VMM that floods it loses lines, not its host.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe::{self, Receiver};
use tokio::task::JoinHandle;

/// The last lines, cut to what explains an end.
const TAIL_BYTES_MAX: usize = 4 * 1024;
/// What both kinds of end begin with: `exiting successfully` and `exiting with error`, then `exit_code=N`.
const END: &str = "Firecracker exiting ";
const EXIT_CODE: &str = "exit_code=";

/// The log of one VMM.
#[derive(Debug)]
pub(crate) struct VmmLog {
    tail: Tail,
    receiver: Arc<Receiver>,
    reader: JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl VmmLog {
    /// Makes the pipe, readable and writable by its owner alone, and reads it from now on.
    pub(crate) fn create(path: &Path) -> io::Result<VmmLog> {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // Held open for writing too, the pipe never ends: the VMM may open it late, and close it early.
        let receiver = Arc::new(pipe::OpenOptions::new().read_write(true).open_receiver(path)?);
        let tail = Tail::default();
        let reader = tokio::spawn(tail.clone().fill(receiver.clone()));
        Ok(VmmLog {
            tail,
            receiver,
            reader,
        })
    }

    /// Takes what is still in the pipe. To be called once the VMM has ended.
    pub(crate) fn drain(&self) {
        self.reader.abort();
        let mut buffer = [0; 4096];
        // A pipe holds 64 KiB unless it was told otherwise, and nobody writes any more.
        for _ in 0..64 {
            // Past the runtime, which may not have been told yet that there is something to read.
            match rustix::io::read(&*self.receiver, &mut buffer) {
                Ok(count @ 1..) => self.tail.note(buffer.get(..count).unwrap_or_default()),
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        self.tail.text()
    }

    /// The code that the VMM said it would exit with, if it said so.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        parse_exit_code(&self.tail.text())
    }
}

impl Drop for VmmLog {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Tail {
    async fn fill(self, from: Arc<Receiver>) {
        let mut buffer = [0; 4096];
        loop {
            if from.readable().await.is_err() {
                return;
            }
            match from.try_read(&mut buffer) {
                Ok(count) => self.note(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    fn note(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(bytes);
        let excess = tail.len().saturating_sub(TAIL_BYTES_MAX);
        tail.drain(..excess);
    }

    fn text(&self) -> String {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

fn parse_exit_code(log: &str) -> Option<i32> {
    let line = log.lines().rfind(|line| line.contains(END))?;
    let (_, code) = line.split_once(EXIT_CODE)?;
    code.split_ascii_whitespace()
        .next()?
        .trim_end_matches('.')
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_in_the_last_line() {
        let clean = "[abc:main:INFO] Vmm is stopping.\n[abc:main:INFO] Firecracker exiting successfully. exit_code=0\n";
        assert_eq!(parse_exit_code(clean), Some(0));
        let failed = "[abc:main:ERROR] Firecracker exiting with error. exit_code=148\n";
        assert_eq!(parse_exit_code(failed), Some(148));
        assert_eq!(
            parse_exit_code("[abc:fc_api:INFO] the body was \"exit_code=0\""),
            None
        );
        assert_eq!(parse_exit_code(""), None);
    }

    #[tokio::test]
    async fn what_was_written_before_the_end_is_read_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmm.log");
        let log = VmmLog::create(&path).unwrap();
        let said = format!("{}\nlast", "x".repeat(10_000));
        std::fs::write(&path, said).unwrap();
        log.drain();
        assert!(log.tail().ends_with("\nlast"));
        assert_eq!(log.tail().len(), TAIL_BYTES_MAX);
        assert!(VmmLog::create(&path).is_err(), "the name is taken");
    }
}
