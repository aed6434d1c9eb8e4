//! The boot log: JSON lines, kept in memory until `/run` is there, then in `/run/platform/guest-init.log`.
//!
//! Bounded to 1 MiB; what comes after that is dropped. It holds no secret and no environment value:
//! nothing that takes one ever reaches this module.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::clock;

/// Largest log, in bytes.
const LOG_BYTES_MAX: usize = 1024 * 1024;
/// Where it is, in the new root.
pub const LOG_PATH: &str = "/run/platform/guest-init.log";

#[derive(Serialize)]
struct Line<'a> {
    at_us: u64,
    event: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

#[derive(Default)]
pub struct Log {
    text: Vec<u8>,
    file: Option<File>,
}

impl Log {
    /// Adds a line: what happened, and a detail for people.
    pub fn add(&mut self, event: &str, detail: &str) {
        let line = Line {
            at_us: clock::monotonic_us(),
            event,
            detail,
        };
        let Ok(mut line) = serde_json::to_vec(&line) else {
            return;
        };
        line.push(b'\n');
        if self.text.len() + line.len() > LOG_BYTES_MAX {
            return;
        }
        if let Some(file) = &mut self.file {
            // The log must not stop the boot: /run may be full.
            let _ = file.write_all(&line);
        }
        self.text.extend_from_slice(&line);
    }

    /// From now on the log is a file too: `file` gets what was logged before.
    pub fn continue_in(&mut self, mut file: File) {
        let _ = file.write_all(&self.text);
        self.file = Some(file);
    }

    /// Everything that was logged.
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

/// How long a console that does not drain is waited for, for one call.
const CONSOLE_PATIENCE: Duration = Duration::from_secs(2);

/// The console, opened apart from the standard streams, which the workload may have too: a console that does not drain
/// must hold neither PID 1 nor its watchdog.
static CONSOLE: OnceLock<OwnedFd> = OnceLock::new();

/// Opens the console. Without one nothing is printed.
pub fn open_console() {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(console) = rustix::fs::open("/dev/console", flags, Mode::empty()) {
        let _ = CONSOLE.set(console);
    }
}

/// One line on the console, for whoever looks at it. Errors are ignored: there is nobody to tell.
pub fn console(text: &str) {
    let mut line = Vec::with_capacity(text.len() + 16);
    line.extend_from_slice(b"guest-init: ");
    line.extend(
        text.bytes()
            .map(|byte| if byte.is_ascii_control() { b' ' } else { byte }),
    );
    line.push(b'\n');
    console_raw(&line);
}

/// Raw bytes on the console, as far as it takes them.
pub fn console_raw(mut bytes: &[u8]) {
    let Some(console) = CONSOLE.get() else { return };
    let deadline = Instant::now() + CONSOLE_PATIENCE;
    while !bytes.is_empty() {
        match rustix::io::write(console, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                let mut fds = [PollFd::new(console, PollFlags::OUT)];
                let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LOG_BYTES_MAX, Log};

    #[test]
    fn the_log_is_bounded_and_every_line_of_it_is_json() {
        let (mut log, long) = (Log::default(), "x".repeat(1_000));
        for _ in 0..2_000 {
            log.add("noise", &long);
        }
        log.add("last", "");
        let text = String::from_utf8(log.text().to_vec()).unwrap();
        assert!(text.len() <= LOG_BYTES_MAX && text.len() > LOG_BYTES_MAX - 2_000);
        assert!(
            text.lines()
                .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
        );
        assert!(text.contains("\"last\""), "a short line still fits");
    }
}
