//! The host's end of the control connection, over a stream.

use plfm_guest_protocol::{Config, HostEvent, HostSession, ProtocolError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

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
    /// The stream failed.
    #[error("the control connection failed")]
    Stream(#[from] std::io::Error),
}

/// The conversation with one guest.
pub struct Conversation {
    stream: UnixStream,
    session: HostSession,
}

impl Conversation {
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            session: HostSession::default(),
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

    pub async fn send_config(&mut self, config: &Config) -> Result<(), ConversationError> {
        let bytes = self.session.config(config)?;
        Ok(self.stream.write_all(&bytes).await?)
    }

    pub async fn reject(&mut self, code: &str, detail: &str) -> Result<(), ConversationError> {
        let bytes = self.session.reject(code, detail)?;
        self.stream.write_all(&bytes).await?;
        Ok(self.stream.shutdown().await?)
    }

    pub async fn stop(&mut self, grace_seconds: Option<u32>) -> Result<(), ConversationError> {
        let bytes = self.session.stop(grace_seconds)?;
        Ok(self.stream.write_all(&bytes).await?)
    }

    pub async fn signal(&mut self, signal: &str) -> Result<(), ConversationError> {
        let bytes = self.session.signal(signal)?;
        Ok(self.stream.write_all(&bytes).await?)
    }
}
