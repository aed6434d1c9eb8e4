//! QEMU's control channel: lines of JSON in both directions.
//!
//! ```text
//! QEMU connects ─ greeting ─> capabilities ─ accepted ─> continue ─ accepted ─> the guest runs, events follow
//! ```
//!
//! QEMU connects to our socket, so nobody waits for a socket to appear.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// QEMU's greeting has about 200 bytes, its events less.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// The control channel.
#[derive(Debug)]
pub(crate) struct Qmp {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
    line: Vec<u8>,
}

/// What QEMU tells by itself and what is of interest here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The guest reset or powered off its machine.
    GuestShutdown,
    /// QEMU ends for another reason.
    HostShutdown,
    /// The guest's processors were stopped.
    Stopped,
}

/// The control channel failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The stream broke.
    #[error("qemu's control channel broke")]
    Io(#[from] io::Error),
    /// Not QMP.
    #[error("qemu's control channel said something unexpected: {0}")]
    Unexpected(String),
    /// A command was refused.
    #[error("qemu refused {command}: {reason}")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's words.
        reason: String,
    },
}

impl Qmp {
    pub(crate) fn new(stream: UnixStream) -> Qmp {
        let (from, to) = stream.into_split();
        Qmp {
            from: BufReader::new(from),
            to,
            line: Vec::new(),
        }
    }

    /// Greets and lets the guest's processors run.
    pub(crate) async fn run_guest(&mut self) -> Result<(), QmpError> {
        let greeting = self.read().await?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Unexpected(greeting.to_string()));
        }
        self.execute("qmp_capabilities").await?;
        self.execute("cont").await
    }

    async fn execute(&mut self, command: &'static str) -> Result<(), QmpError> {
        self.to
            .write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes())
            .await?;
        loop {
            let message = self.read().await?;
            if message.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = message.get("error") {
                let reason = error
                    .get("desc")
                    .and_then(Value::as_str)
                    .unwrap_or("no reason")
                    .to_owned();
                return Err(QmpError::Refused { command, reason });
            }
            if message.get("event").is_none() {
                return Err(QmpError::Unexpected(message.to_string()));
            }
        }
    }

    /// The next event of interest; an error once the channel has ended. Cancel safe.
    pub(crate) async fn event(&mut self) -> Result<Event, QmpError> {
        loop {
            if let Some(event) = parse_event(&self.read().await?) {
                return Ok(event);
            }
        }
    }

    /// One message. Cancel safe: what was read of a line stays in `self.line`.
    async fn read(&mut self) -> Result<Value, QmpError> {
        let room = LINE_BYTES_MAX.saturating_sub(u64::try_from(self.line.len()).unwrap_or(u64::MAX));
        (&mut self.from)
            .take(room)
            .read_until(b'\n', &mut self.line)
            .await?;
        let line = std::mem::take(&mut self.line);
        if !line.ends_with(b"\n") {
            return Err(QmpError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(|error| QmpError::Unexpected(error.to_string()))
    }
}

fn parse_event(message: &Value) -> Option<Event> {
    match message.get("event")?.as_str()? {
        "SHUTDOWN" => match message.get("data")?.get("guest")?.as_bool()? {
            true => Some(Event::GuestShutdown),
            false => Some(Event::HostShutdown),
        },
        "STOP" => Some(Event::Stopped),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Option<Event> {
        parse_event(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn who_ended_the_machine_is_told_apart() {
        let guest = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#;
        let host = r#"{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-signal"}}"#;
        assert_eq!(event(guest), Some(Event::GuestShutdown));
        assert_eq!(event(host), Some(Event::HostShutdown));
        assert_eq!(event(r#"{"event": "STOP"}"#), Some(Event::Stopped));
        for other in [
            r#"{"event": "RESUME"}"#,
            r#"{"event": "SHUTDOWN"}"#,
            r#"{"event": 1}"#,
            "{}",
            "[]",
        ] {
            assert_eq!(event(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_line_that_came_in_part_is_kept() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut qmp = Qmp::new(ours);
        let line = "{\"event\": \"STOP\"}\n";
        let (_from, mut to) = theirs.into_split();
        to.write_all(&line.as_bytes()[..9]).await.unwrap();
        {
            // Polled until it has what there is, then given up.
            let mut reading = Box::pin(qmp.event());
            tokio::select! {
                biased;
                event = &mut reading => panic!("{event:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        to.write_all(&line.as_bytes()[9..]).await.unwrap();
        assert_eq!(qmp.event().await.unwrap(), Event::Stopped);
        drop(to);
        assert!(matches!(qmp.event().await, Err(QmpError::Io(_))));
    }
}
