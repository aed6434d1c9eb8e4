//! Exec sessions: what travels in control and exit frames.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::message::check::{DETAIL_BYTES_MAX, plain_text};
use crate::{FrameType, Sensitive, encode_frame};

/// How many sessions one instance has at once, at most.
pub const EXEC_SESSIONS_MAX: usize = 2;
/// How long one session lives, at most, in seconds.
pub const EXEC_SESSION_SECONDS_MAX: u64 = 3_600;

/// The program of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStart {
    /// Program and arguments; a program without a slash is looked up in the workload's PATH.
    pub argv: Vec<String>,
    /// Added to the workload's environment.
    #[serde(default)]
    pub env: BTreeMap<String, Sensitive>,
    /// Working directory; the workload's, if absent.
    #[serde(default)]
    pub cwd: Option<String>,
    /// User as in an OCI image; the workload's, if absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Whether the program gets a terminal.
    #[serde(default)]
    pub tty: bool,
    /// The terminal's size.
    #[serde(default)]
    pub rows: u16,
    /// The terminal's size.
    #[serde(default)]
    pub cols: u16,
}

/// What the agent says in a control frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecControl {
    /// Start the program: the first frame of a session.
    Start(ExecStart),
    /// Send the boot log as standard output and end: instead of `start`.
    BootLog,
    /// The terminal has a new size.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Send a signal to the session's processes: `INT`, `TERM`, `KILL`, `HUP`, or any other.
    Signal {
        /// Its name, without `SIG`.
        signal: String,
    },
    /// There is no more standard input.
    CloseStdin,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExecExit {
    /// The program's exit code, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that killed it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it could not be started or was ended: a stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The same, for people: at most [`DETAIL_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl ExecExit {
    /// The exit frame. The detail may quote what was asked for, so it is cut, and an exit is always one frame.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut exit = self.clone();
        exit.detail = exit.detail.map(|detail| plain_text(&detail, DETAIL_BYTES_MAX));
        // Numbers and text: there is nothing that cannot be written.
        encode_frame(FrameType::Exit, &serde_json::to_vec(&exit).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameDecoder;

    #[test]
    fn an_exit_is_one_frame_whatever_its_detail_quotes() {
        let exit = ExecExit {
            error: Some("exec_start_failed".to_owned()),
            detail: Some("\"\\\u{1b}".repeat(60_000)),
            ..ExecExit::default()
        };
        let mut decoder = FrameDecoder::default();
        decoder.push(&exit.to_frame());
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!((frame.kind, decoder.buffered_bytes()), (FrameType::Exit, 0));
        let read: ExecExit = serde_json::from_slice(&frame.payload).unwrap();
        assert_eq!(read.error, exit.error);
        assert_eq!(read.detail.map(|detail| detail.len()), Some(DETAIL_BYTES_MAX));
    }
}
