//! One child process: its standard error is kept in a short tail, and it never outlives its owner.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};

/// Enough for the message that a program dies with.
const STDERR_BYTES_MAX: usize = 4 * 1024;
/// A pipe whose only writer has died ends at once; the bound is for a kernel that has other plans.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// From closing its channels to the end of a process.
pub(crate) const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: u32,
    stderr: StderrTail,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Default)]
struct StderrTail(Arc<Mutex<VecDeque<u8>>>);

impl Process {
    /// Starts a program with an empty environment, so that nothing of ours is in a process that a guest may break
    /// into, and in its own process group, so that a terminal's interrupt reaches us alone.
    pub(crate) fn spawn(program: &Path, args: &[OsString], stdout: Stdio) -> io::Result<Process> {
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stderr = StderrTail::default();
        let reader = child
            .stderr
            .take()
            .map(|pipe| tokio::spawn(stderr.clone().fill(pipe)));
        let pid = child.id().unwrap_or_default();
        Ok(Process {
            child,
            pid,
            stderr,
            reader,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for the end. May be called again after it.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the process with SIGKILL, if it has not ended, and reaps it.
    pub(crate) async fn end(&mut self) -> Option<ExitStatus> {
        // An error means that it has ended already.
        let _ = self.child.start_kill();
        self.child.wait().await.ok()
    }

    /// The last words on standard error. To be called after the end.
    pub(crate) async fn stderr_tail(&mut self) -> String {
        if let Some(mut reader) = self.reader.take()
            && timeout(DRAIN_MAX, &mut reader).await.is_err()
        {
            reader.abort();
        }
        self.stderr.text()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

impl StderrTail {
    async fn fill(self, mut pipe: ChildStderr) {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend(buffer.iter().take(count));
            let excess = tail.len().saturating_sub(STDERR_BYTES_MAX);
            tail.drain(..excess);
        }
    }

    fn text(&self) -> String {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}
