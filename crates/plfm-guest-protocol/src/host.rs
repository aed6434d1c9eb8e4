//! The host's end of the control connection.
//!
//! ```text
//! Listening --hello--> Greeted --config()--> ConfigSent --ack--> Acked --config_applied--> Applied --ready--> Ready --exited--> Over
//!                         |                      |                 |                          |
//!                         +--reject()--> Over    +-----------------+----------failed----------+--> Over
//! ```

use crate::message::check::{DETAIL_BYTES_MAX, check_stages, plain_text};
use crate::message::{describe_json_error, render_line};
use crate::{
    Config, Exit, Failure, GuestMessage, Hello, HostMessage, LINE_BYTES_MAX, LineDecoder, LineError,
    MemoryUse, PROTOCOL, ProtocolError, StageTiming, Status,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Listening,
    Greeted,
    ConfigSent,
    Acked,
    Applied,
    Ready,
    Over,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Listening => "waiting for the hello",
            Self::Greeted => "the hello was not answered",
            Self::ConfigSent => "waiting for the ack",
            Self::Acked => "the guest applies the config",
            Self::Applied => "the guest starts the workload",
            Self::Ready => "the workload runs",
            Self::Over => "the conversation is over",
        }
    }
}

/// What the guest reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// It is there and speaks this protocol. Answer with a config or a reject.
    Hello(Hello),
    /// It understood the config of this generation.
    Acked {
        /// The generation.
        generation: u64,
    },
    /// Everything but the workload is set up.
    ConfigApplied,
    /// The workload runs.
    Ready {
        /// When each stage ran.
        stages: Vec<StageTiming>,
        /// What guest init takes.
        memory: Option<MemoryUse>,
    },
    /// The boot failed.
    Failed {
        /// How.
        failure: Failure,
        /// When each stage ran.
        stages: Vec<StageTiming>,
    },
    /// The workload ended.
    Exited(Exit),
}

/// The host's end. Bytes in, events out; answers in, bytes out.
#[derive(Debug)]
pub struct HostSession {
    state: State,
    lines: LineDecoder,
    generation: u64,
}

impl Default for HostSession {
    fn default() -> Self {
        Self {
            state: State::Listening,
            lines: LineDecoder::default(),
            generation: 0,
        }
    }
}

impl HostSession {
    /// Adds bytes that came from the guest.
    pub fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
    }

    /// The next report of the guest, if it has come whole.
    ///
    /// # Errors
    /// [`ProtocolError`] when it is malformed, out of order, cannot be true, or the guest speaks another protocol;
    /// answer a mismatch with [`HostSession::reject`].
    pub fn next_event(&mut self) -> Result<Option<HostEvent>, ProtocolError> {
        let Some(line) = self.lines.next_line()? else {
            return Ok(None);
        };
        let message: GuestMessage = serde_json::from_str(&line)
            .map_err(|error| ProtocolError::NotAMessage(describe_json_error(&error)))?;
        self.take(message).map(Some)
    }

    fn take(&mut self, message: GuestMessage) -> Result<HostEvent, ProtocolError> {
        let state = self.state;
        let (next, event) = match (state, message) {
            (State::Listening, GuestMessage::Hello(hello)) => {
                self.state = State::Greeted;
                if hello.guest_init_protocol != PROTOCOL {
                    return Err(ProtocolError::ProtocolMismatch {
                        guest: hello.guest_init_protocol,
                    });
                }
                hello.check()?;
                (State::Greeted, HostEvent::Hello(hello))
            }
            (State::ConfigSent, GuestMessage::Ack { generation, .. }) if generation == self.generation => {
                (State::Acked, HostEvent::Acked { generation })
            }
            (State::Acked, GuestMessage::Status(Status::ConfigApplied { .. })) => {
                (State::Applied, HostEvent::ConfigApplied)
            }
            (State::Applied, GuestMessage::Status(Status::Ready { stages, memory, .. })) => {
                check_stages(&stages)?;
                (State::Ready, HostEvent::Ready { stages, memory })
            }
            (State::Ready, GuestMessage::Status(Status::Exited { exit, .. })) => {
                exit.check()?;
                (State::Over, HostEvent::Exited(exit))
            }
            (
                State::Greeted | State::ConfigSent | State::Acked | State::Applied,
                GuestMessage::Status(Status::Failed {
                    mut failure, stages, ..
                }),
            ) => {
                check_stages(&stages)?;
                failure.detail = plain_text(&failure.detail, DETAIL_BYTES_MAX);
                (State::Over, HostEvent::Failed { failure, stages })
            }
            (
                State::Listening
                | State::Greeted
                | State::ConfigSent
                | State::Acked
                | State::Applied
                | State::Ready
                | State::Over,
                message,
            ) => {
                return Err(ProtocolError::OutOfOrder {
                    message: message_name(&message),
                    state: state.name(),
                });
            }
        };
        self.state = next;
        Ok(event)
    }

    /// Answers the hello with a config: the bytes to send.
    ///
    /// # Errors
    /// [`ProtocolError::OutOfOrder`] when there is no hello to answer; [`LineError::TooLong`] when the config is
    /// larger than a line may be: then the hello still waits for its answer.
    pub fn config(&mut self, config: &Config) -> Result<Vec<u8>, ProtocolError> {
        self.answer("a config")?;
        let line = render_config(config)?;
        self.state = State::ConfigSent;
        self.generation = config.generation;
        Ok(line)
    }

    /// Answers the hello with a refusal: the bytes to send before closing.
    ///
    /// # Errors
    /// [`ProtocolError::OutOfOrder`] when there is no hello to answer.
    pub fn reject(&mut self, code: &str, detail: &str) -> Result<Vec<u8>, ProtocolError> {
        self.answer("a reject")?;
        self.state = State::Over;
        Ok(render_line(&HostMessage::Reject {
            code: code.to_owned(),
            detail: detail.to_owned(),
        }))
    }

    fn answer(&self, message: &'static str) -> Result<(), ProtocolError> {
        match self.state {
            State::Greeted => Ok(()),
            State::Listening
            | State::ConfigSent
            | State::Acked
            | State::Applied
            | State::Ready
            | State::Over => Err(ProtocolError::OutOfOrder {
                message,
                state: self.state.name(),
            }),
        }
    }

    /// Asks for the end of the workload: the bytes to send.
    ///
    /// # Errors
    /// [`ProtocolError::OutOfOrder`] when the guest has no config yet or is over.
    pub fn stop(&mut self, grace_seconds: Option<u32>) -> Result<Vec<u8>, ProtocolError> {
        self.command("a stop")?;
        Ok(render_line(&HostMessage::Stop { grace_seconds }))
    }

    /// Asks for a signal to the workload: the bytes to send.
    ///
    /// # Errors
    /// [`ProtocolError::OutOfOrder`] when the guest has no config yet or is over.
    pub fn signal(&mut self, signal: &str) -> Result<Vec<u8>, ProtocolError> {
        self.command("a signal")?;
        Ok(render_line(&HostMessage::Signal {
            signal: signal.to_owned(),
        }))
    }

    fn command(&self, message: &'static str) -> Result<(), ProtocolError> {
        match self.state {
            State::ConfigSent | State::Acked | State::Applied | State::Ready => Ok(()),
            State::Listening | State::Greeted | State::Over => Err(ProtocolError::OutOfOrder {
                message,
                state: self.state.name(),
            }),
        }
    }
}

fn render_config(config: &Config) -> Result<Vec<u8>, LineError> {
    let line = render_line(&HostMessage::Config(Box::new(config.clone())));
    if line.len() > LINE_BYTES_MAX + 1 {
        return Err(LineError::TooLong);
    }
    Ok(line)
}

impl Config {
    /// Whether it can be sent: a config is one line.
    ///
    /// # Errors
    /// [`LineError::TooLong`], which [`HostSession::config`] would answer with when the guest is there already.
    pub fn check_size(&self) -> Result<(), LineError> {
        render_config(self).map(drop)
    }
}

fn message_name(message: &GuestMessage) -> &'static str {
    match message {
        GuestMessage::Hello(_) => "a hello",
        GuestMessage::Ack { .. } => "an ack",
        GuestMessage::Status(_) => "a status",
    }
}
