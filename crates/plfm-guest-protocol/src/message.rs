//! The messages of the control connection, one JSON object a line.

pub(crate) mod check;

use serde::{Deserialize, Serialize};

use crate::{Config, ConfigError, LineError, Reason, Stage};

/// The guest's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of guest init.
    pub guest_init_version: String,
    /// Protocol it speaks.
    pub guest_init_protocol: u32,
    /// The instance it was told to be, from the kernel command line. Empty together with `boot_id` from a guest that
    /// failed before it could read them.
    pub instance_id: String,
    /// A UUID that is new at every boot, or empty: see `instance_id`.
    pub boot_id: String,
}

/// When a stage ran, in microseconds of the monotonic clock, which starts with the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTiming {
    /// The stage.
    pub stage: Stage,
    /// Its beginning.
    pub started_us: u64,
    /// Its end.
    pub finished_us: u64,
    /// Processor time that guest init itself spent in it, in microseconds; waiting for the host or a disk is none.
    #[serde(default)]
    pub cpu_us: u64,
}

/// What guest init itself takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Resident set, in bytes.
    pub rss_bytes: u64,
}

/// Which status a guest reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusState {
    /// Everything but the workload is set up.
    ConfigApplied,
    /// The workload runs.
    Ready,
    /// The boot failed.
    Failed,
    /// The workload ended.
    Exited,
}

/// How a boot failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stage in which it failed.
    pub stage: Stage,
    /// Why.
    pub reason: Reason,
    /// The same, for people: at most [`crate::DETAIL_BYTES_MAX`] bytes. It holds no secret and no environment value.
    pub detail: String,
    /// The system's error number, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
}

/// How a workload ended: by itself with an exit code, or by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that killed it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed something of it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// How long it ran, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// `workload_crashed` when it ended in a failure that nobody asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl Exit {
    /// The exit code as a shell reports it: 128 + the signal's number for a killed workload.
    pub fn shell_code(&self) -> i32 {
        self.exit_code
            .or(self.signal.map(|signal| signal.saturating_add(128)))
            .unwrap_or(255)
    }
}

/// A status report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Status {
    /// Everything but the workload is set up.
    ConfigApplied {
        /// RFC 3339.
        timestamp: String,
    },
    /// The workload runs.
    Ready {
        /// RFC 3339.
        timestamp: String,
        /// When each stage ran.
        #[serde(default)]
        stages: Vec<StageTiming>,
        /// What guest init takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory: Option<MemoryUse>,
    },
    /// The boot failed; the guest powers off.
    Failed {
        /// RFC 3339.
        timestamp: String,
        /// How.
        #[serde(flatten)]
        failure: Failure,
        /// When each stage ran, the failed one last.
        #[serde(default)]
        stages: Vec<StageTiming>,
    },
    /// The workload ended; the guest powers off.
    Exited {
        /// RFC 3339.
        timestamp: String,
        /// How.
        #[serde(flatten)]
        exit: Exit,
    },
}

impl Status {
    /// Which status it is.
    pub fn state(&self) -> StatusState {
        match self {
            Self::ConfigApplied { .. } => StatusState::ConfigApplied,
            Self::Ready { .. } => StatusState::Ready,
            Self::Failed { .. } => StatusState::Failed,
            Self::Exited { .. } => StatusState::Exited,
        }
    }
}

/// What the guest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum GuestMessage {
    /// The first message.
    Hello(Hello),
    /// The config was understood. It was not applied yet.
    Ack {
        /// The config's version.
        config_version: String,
        /// The config's generation.
        generation: u64,
    },
    /// How it goes.
    Status(Status),
}

/// What the host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HostMessage {
    /// What to be.
    Config(Box<Config>),
    /// This guest is not served. The guest prints it and stops.
    Reject {
        /// Stable code: `guest_init_protocol_mismatch`, `instance_unknown`, …
        code: String,
        /// The same, for people.
        #[serde(default)]
        detail: String,
    },
    /// End the workload: its stop signal, its grace period, then SIGKILL to the whole tree.
    Stop {
        /// Grace in seconds, instead of the config's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace_seconds: Option<u32>,
    },
    /// Send the workload a signal.
    Signal {
        /// Its name, with or without `SIG`.
        signal: String,
    },
}

/// Why what came over the control connection was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The line itself is bad.
    #[error(transparent)]
    Line(#[from] LineError),
    /// Not a message.
    #[error("a line is not a message of this protocol: {0}")]
    NotAMessage(String),
    /// The config contradicts the contract.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A message that this state does not allow.
    #[error("{message} came while {state}")]
    OutOfOrder {
        /// The message.
        message: &'static str,
        /// The state.
        state: &'static str,
    },
    /// A report that is well formed and cannot be true.
    #[error("the guest's {member} {problem}")]
    Report {
        /// The member.
        member: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The guest speaks another protocol.
    #[error("the guest speaks protocol {guest}, not {}", crate::PROTOCOL)]
    ProtocolMismatch {
        /// What the guest speaks.
        guest: u32,
    },
}

/// Describes a JSON error without its text: the text may quote a value, and the value may be a secret.
pub(crate) fn describe_json_error(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Io => "unreadable",
        Category::Syntax => "not JSON",
        Category::Data => "a member is missing, unknown or of the wrong type",
        Category::Eof => "cut off",
    };
    format!("{what} at column {}", error.column())
}

pub(crate) fn render_line(message: &impl Serialize) -> Vec<u8> {
    // Every message has a JSON form: string keys, finite numbers. An empty line would be refused by the peer.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}
