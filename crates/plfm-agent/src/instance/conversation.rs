//! The host's end of the control connection, over a stream. Nothing is sent without a bound: a guest that does not
//! read is not heard less for it, but nothing more is sent to it.

use plfm_guest_protocol::{Config, HostEvent, HostSession, ProtocolError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

/// How much is read at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// Why a conversation ended without a last word.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The guest broke the protocol.
    #[error("the guest broke the protocol")]
    Protocol(#[from] ProtocolError),
    /// The guest closed the connection.
    #[error("the guest closed the control connection")]
    Closed,
    /// The guest did not read in time, now or earlier: a line may be cut in its middle.
    #[error("the guest does not read what it is told")]
    Deaf,
    /// The stream failed.
    #[error("the control connection failed")]
    Stream(#[from] std::io::Error),
}

/// The conversation with one guest.
pub struct Conversation {
    stream: UnixStream,
    session: HostSession,
    deaf: bool,
}

impl Conversation {
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            session: HostSession::default(),
            deaf: false,
        }
    }

    /// The guest's next report. Cancel-safe: a report is never lost between two calls.
    pub async fn next_event(&mut self) -> Result<HostEvent, ConversationError> {
        let mut buffer = [0; READ_BYTES];
        loop {
            if let Some(event) = self.session.next_event()? {
                return Ok(event);
            }
            let length = self.stream.read(&mut buffer).await?;
            if length == 0 {
                return Err(ConversationError::Closed);
            }
            self.session.push(buffer.get(..length).unwrap_or_default());
        }
    }

    pub async fn send_config(&mut self, config: &Config, by: Instant) -> Result<(), ConversationError> {
        let line = self.session.config(config)?;
        self.send(&line, by).await
    }

    pub async fn reject(&mut self, code: &str, detail: &str, by: Instant) -> Result<(), ConversationError> {
        let line = self.session.reject(code, detail)?;
        self.send(&line, by).await?;
        Ok(self.stream.shutdown().await?)
    }

    pub async fn stop(&mut self, grace_seconds: Option<u32>, by: Instant) -> Result<(), ConversationError> {
        let line = self.session.stop(grace_seconds)?;
        self.send(&line, by).await
    }

    pub async fn signal(&mut self, signal: &str, by: Instant) -> Result<(), ConversationError> {
        let line = self.session.signal(signal)?;
        self.send(&line, by).await
    }

    async fn send(&mut self, line: &[u8], by: Instant) -> Result<(), ConversationError> {
        if self.deaf {
            return Err(ConversationError::Deaf);
        }
        match timeout_at(by, self.stream.write_all(line)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => {
                self.deaf = true;
                Err(ConversationError::Deaf)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    /// A conversation that has got as far as `ready`, and the guest's end of it.
    async fn at_ready(config: &Config) -> (Conversation, UnixStream) {
        let (host, mut guest) = UnixStream::pair().unwrap();
        let mut conversation = Conversation::new(host);
        let said = [
            r#"{"type":"hello","guest_init_version":"1.0.0","guest_init_protocol":1,"instance_id":"i-1","boot_id":"3f0a3c1e-7b1e-4a59-8a35-0c9f0e7a9d11"}"#,
            r#"{"type":"ack","config_version":"v1","generation":1}"#,
            r#"{"type":"status","state":"config_applied","timestamp":""}"#,
            r#"{"type":"status","state":"ready","timestamp":""}"#,
        ];
        for (index, line) in said.iter().enumerate() {
            guest.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            conversation.next_event().await.unwrap();
            if index == 0 {
                conversation.send_config(config, soon()).await.unwrap();
            }
        }
        (conversation, guest)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_guest_that_does_not_read_is_given_up_and_still_heard() {
        let config = serde_json::from_str(
            r#"{"config_version":"v1","instance_id":"i-1","generation":1,"workload":{"argv":["/bin/app"]}}"#,
        )
        .unwrap();
        let (mut conversation, mut guest) = at_ready(&config).await;
        let told = loop {
            let by = Instant::now() + Duration::from_millis(20);
            if let Err(error) = conversation.signal("HUP", by).await {
                break error;
            }
        };
        assert!(matches!(told, ConversationError::Deaf), "{told}");
        // The line may be cut: nothing may follow it, although the guest reads now.
        let mut read = vec![0; 1 << 20];
        while guest.try_read(&mut read).is_ok() {}
        assert!(matches!(
            conversation.stop(None, soon()).await,
            Err(ConversationError::Deaf)
        ));
        let exited = br#"{"type":"status","state":"exited","timestamp":"","exit_code":3}"#;
        guest
            .write_all(&[exited.as_slice(), b"\n"].concat())
            .await
            .unwrap();
        assert!(matches!(
            conversation.next_event().await,
            Ok(HostEvent::Exited(exit)) if exit.exit_code == Some(3)
        ));
    }
}
