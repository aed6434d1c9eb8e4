//! The guest's end of the control connection.
//!
//! ```text
//! start() --hello--> HelloSent --config--> Configured --config_applied--> Applied --ready--> Ready --exited--> Over
//!                        |                     |                            |                  |
//!                        +--reject--> Over     +--failed--> Over            +--failed--> Over  (stop, signal: no change)
//! ```

use crate::config::STOP_GRACE_SECONDS_MAX;
use crate::message::check::{CODE_BYTES_MAX, DETAIL_BYTES_MAX, plain_text};
use crate::message::{describe_json_error, render_line};
use crate::{Config, GuestMessage, Hello, HostMessage, LineDecoder, ProtocolError, Status, StatusState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    HelloSent,
    Configured,
    Applied,
    Ready,
    Over,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::HelloSent => "waiting for the config",
            Self::Configured => "applying the config",
            Self::Applied => "starting the workload",
            Self::Ready => "the workload runs",
            Self::Over => "the conversation is over",
        }
    }
}

/// What the host asks of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEvent {
    /// Apply this config; it is valid. The ack is to be sent first.
    Configure {
        /// The config.
        config: Box<Config>,
        /// The bytes of the ack.
        ack: Vec<u8>,
    },
    /// The host does not serve this guest.
    Rejected {
        /// Stable code.
        code: String,
        /// For people.
        detail: String,
    },
    /// End the workload.
    Stop {
        /// Grace in seconds, instead of the config's: at most an hour, whatever the host says.
        grace_seconds: Option<u32>,
    },
    /// Send the workload a signal.
    Signal {
        /// Its name.
        signal: String,
    },
}

/// The guest's end. Bytes in, events out; statuses in, bytes out.
#[derive(Debug)]
pub struct GuestSession {
    state: State,
    lines: LineDecoder,
    /// A config's instance id must be the one that the hello named.
    instance_id: String,
}

impl GuestSession {
    /// A new conversation and the bytes of its hello.
    pub fn start(hello: Hello) -> (Self, Vec<u8>) {
        let instance_id = hello.instance_id.clone();
        let bytes = render_line(&GuestMessage::Hello(hello));
        (
            Self {
                state: State::HelloSent,
                lines: LineDecoder::default(),
                instance_id,
            },
            bytes,
        )
    }

    /// Adds bytes that came from the host.
    pub fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
    }

    /// The next thing that the host asks for, if it has come whole.
    ///
    /// # Errors
    /// [`ProtocolError`] when it is malformed, out of order, or a config this guest cannot be.
    pub fn next_event(&mut self) -> Result<Option<GuestEvent>, ProtocolError> {
        let Some(line) = self.lines.next_line()? else {
            return Ok(None);
        };
        let message: HostMessage = serde_json::from_str(&line)
            .map_err(|error| ProtocolError::NotAMessage(describe_json_error(&error)))?;
        self.take(message).map(Some)
    }

    fn take(&mut self, message: HostMessage) -> Result<GuestEvent, ProtocolError> {
        match (self.state, message) {
            (State::HelloSent, HostMessage::Config(config)) => {
                config.check(&self.instance_id)?;
                self.state = State::Configured;
                let (config_version, generation) = (config.config_version.clone(), config.generation);
                let ack = render_line(&GuestMessage::Ack {
                    config_version,
                    generation,
                });
                Ok(GuestEvent::Configure { config, ack })
            }
            (State::HelloSent, HostMessage::Reject { code, detail }) => {
                self.state = State::Over;
                Ok(GuestEvent::Rejected {
                    code: plain_text(&code, CODE_BYTES_MAX),
                    detail: plain_text(&detail, DETAIL_BYTES_MAX),
                })
            }
            (State::Configured | State::Applied | State::Ready, HostMessage::Stop { grace_seconds }) => {
                let grace_seconds = grace_seconds.map(|grace| grace.min(STOP_GRACE_SECONDS_MAX));
                Ok(GuestEvent::Stop { grace_seconds })
            }
            (State::Configured | State::Applied | State::Ready, HostMessage::Signal { signal }) => {
                Ok(GuestEvent::Signal {
                    signal: plain_text(&signal, CODE_BYTES_MAX),
                })
            }
            (state @ State::Over, message)
            | (state @ State::HelloSent, message @ (HostMessage::Stop { .. } | HostMessage::Signal { .. }))
            | (
                state @ (State::Configured | State::Applied | State::Ready),
                message @ (HostMessage::Config(_) | HostMessage::Reject { .. }),
            ) => {
                let message = match message {
                    HostMessage::Config(_) => "a config",
                    HostMessage::Reject { .. } => "a reject",
                    HostMessage::Stop { .. } => "a stop",
                    HostMessage::Signal { .. } => "a signal",
                };
                Err(ProtocolError::OutOfOrder {
                    message,
                    state: state.name(),
                })
            }
        }
    }

    /// The bytes of a status report. The detail of a failure is cut to [`DETAIL_BYTES_MAX`].
    ///
    /// # Errors
    /// [`ProtocolError::OutOfOrder`] when the conversation is not at a point where this status can come.
    pub fn report(&mut self, mut status: Status) -> Result<Vec<u8>, ProtocolError> {
        let next = match (self.state, status.state()) {
            (State::Configured, StatusState::ConfigApplied) => State::Applied,
            (State::Applied, StatusState::Ready) => State::Ready,
            (State::Ready, StatusState::Exited) => State::Over,
            (State::HelloSent | State::Configured | State::Applied, StatusState::Failed) => State::Over,
            (state @ State::Over, _)
            | (
                state @ State::HelloSent,
                StatusState::ConfigApplied | StatusState::Ready | StatusState::Exited,
            )
            | (state @ State::Configured, StatusState::Ready | StatusState::Exited)
            | (state @ State::Applied, StatusState::ConfigApplied | StatusState::Exited)
            | (state @ State::Ready, StatusState::ConfigApplied | StatusState::Ready | StatusState::Failed) =>
            {
                return Err(ProtocolError::OutOfOrder {
                    message: "a status",
                    state: state.name(),
                });
            }
        };
        self.state = next;
        if let Status::Failed { failure, .. } = &mut status {
            failure.detail = plain_text(&failure.detail, DETAIL_BYTES_MAX);
        }
        Ok(render_line(&GuestMessage::Status(status)))
    }
}
