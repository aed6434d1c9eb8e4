//! The boot log: JSON lines, kept in memory until `/run` is there, then in `/run/platform/guest-init.log`.
//!
//! Bounded to 1 MiB; what comes after that is dropped. It holds no secret and no environment value:
//! nothing that takes one ever reaches this module.

use std::fs::File;
use std::io::Write as _;

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

/// One line on the console, for whoever looks at it. Errors are ignored: there is nobody to tell.
pub fn console(text: &str) {
    let mut line = Vec::with_capacity(text.len() + 16);
    line.extend_from_slice(b"guest-init: ");
    line.extend(
        text.bytes()
            .map(|byte| if byte.is_ascii_control() { b' ' } else { byte }),
    );
    line.push(b'\n');
    let _ = std::io::stderr().write_all(&line);
}

/// Raw bytes on the console.
pub fn console_raw(bytes: &[u8]) {
    let _ = std::io::stderr().write_all(bytes);
}
