use plfm_release::ReleaseId;
use serde::{Deserialize, Serialize};

/// How a boot went: what a release is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootOutcome {
    /// The workload runs.
    Ready,
    /// A stage failed, and nothing says that the customer is to blame.
    Failed,
    /// No hello came.
    HandshakeTimeout,
    /// The VM could not be started or ended without a word.
    VmmFailed,
    /// The guest spoke another protocol than its manifest says.
    ProtocolMismatch,
    /// The kernel panicked before the workload ran.
    KernelPanic,
    /// A bad argv, a root disk that is none, a scratch disk of the customer's own: not counted against the release.
    CustomerFailure,
    /// It was stopped before it was ready: counted for nothing.
    Cancelled,
}

impl BootOutcome {
    /// The outcome's name in JSON, tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::VmmFailed => "vmm_failed",
            Self::ProtocolMismatch => "protocol_mismatch",
            Self::KernelPanic => "kernel_panic",
            Self::CustomerFailure => "customer_failure",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether a boot that ended so speaks for its release, against it, or not at all.
    pub fn counts(self) -> Counted {
        match self {
            Self::Ready => Counted::Success,
            Self::Failed
            | Self::HandshakeTimeout
            | Self::VmmFailed
            | Self::ProtocolMismatch
            | Self::KernelPanic => Counted::Failure,
            Self::CustomerFailure | Self::Cancelled => Counted::Not,
        }
    }
}

/// What a boot says about its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It works.
    Success,
    /// It does not.
    Failure,
    /// Nothing: somebody else's doing.
    Not,
}

/// When a stage of guest init ran, in microseconds since the guest's kernel started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTiming {
    /// The stage.
    pub stage: String,
    /// Its beginning.
    pub started_us: u64,
    /// Its end.
    pub finished_us: u64,
    /// Processor time that guest init itself spent in it, in microseconds.
    #[serde(default)]
    pub cpu_us: u64,
}

/// What the host's side of a boot took, each in microseconds since the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTimings {
    /// The release's artifacts were verified.
    pub verified_us: u64,
    /// Scratch disk, sockets and network were there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_us: Option<u64>,
    /// The VM ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_us: Option<u64>,
    /// The guest's hello came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello_us: Option<u64>,
    /// The guest was ready, or had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_us: Option<u64>,
}

/// What became of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// The release that was booted.
    pub release: ReleaseId,
    /// Why this release: `requested`, `pinned`, `canary`, `default` or `current`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_reason: Option<String>,
    /// The same for people, with what was passed over for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<String>,
    /// How it went.
    pub outcome: BootOutcome,
    /// The stage that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Why, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The guest's error number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The guest's stages.
    #[serde(default)]
    pub stages: Vec<StageTiming>,
    /// The host's side.
    pub host: HostTimings,
    /// What guest init took when it was ready, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_init_rss_bytes: Option<u64>,
}

impl BootReport {
    /// From the VM's start to ready, in milliseconds; none of a boot that did not become ready.
    pub fn ready_ms(&self) -> Option<u64> {
        match self.outcome {
            BootOutcome::Ready => {
                let (started, settled) = (self.host.started_us?, self.host.settled_us?);
                Some(settled.saturating_sub(started) / 1_000)
            }
            BootOutcome::Failed
            | BootOutcome::HandshakeTimeout
            | BootOutcome::VmmFailed
            | BootOutcome::ProtocolMismatch
            | BootOutcome::KernelPanic
            | BootOutcome::CustomerFailure
            | BootOutcome::Cancelled => None,
        }
    }
}
