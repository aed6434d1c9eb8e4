//! The control plane as the link sees it: three questions, and how they fail.

use std::fmt;
use std::future::Future;

use plfm_api::control::{Generation, Heartbeat, HeartbeatAnswer, HostId, Target};

/// How long an answer to the question for a newer target may be held back, in seconds.
pub const TARGET_WAIT_SECONDS: u64 = 55;

/// Carries questions to the control plane. Each has a bound of its own.
pub trait Transport: Send + Sync {
    /// Tells how the host is.
    fn heartbeat(
        &self,
        host: &HostId,
        heartbeat: &Heartbeat,
    ) -> impl Future<Output = Result<HeartbeatAnswer, TransportError>> + Send;

    /// Asks for a target that is newer than `after`; the answer may be held back until there is one.
    fn target(
        &self,
        host: &HostId,
        after: Generation,
    ) -> impl Future<Output = Result<Option<Target>, TransportError>> + Send;
}

/// Why a question got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportError {
    /// Nobody there, nobody whose certificate is trusted, or too slow. Why, for people.
    Unreachable(String),
    /// The control plane says no.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// Why, for people.
        detail: String,
        /// One thing to do about it.
        hint: Option<String>,
    },
    /// The answer makes no sense. Why, for people.
    Malformed(String),
    /// Nothing was asked: what is to be reported cannot be written to the host's own disk. Why, for people.
    HostDisk(String),
}

/// What a failure means for the host's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Same,
    /// Its certificate is over: it has to enrol again.
    Expired,
    /// The control plane does not take this host any more.
    Rejected,
}

impl TransportError {
    /// Stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable(_) => "control_unreachable",
            Self::Refused { code, .. } => code,
            Self::Malformed(_) => "control_answer_malformed",
            Self::HostDisk(_) => "disk_error",
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. } => hint.as_deref(),
            Self::Unreachable(_) | Self::Malformed(_) | Self::HostDisk(_) => None,
        }
    }

    /// Whether the control plane takes nothing of this stream any more, now or later.
    pub fn is_stream_too_old(&self) -> bool {
        self.code() == "stream_too_old"
    }

    /// What it means for the host's identity.
    pub fn standing(&self) -> Standing {
        match self {
            Self::Refused { code, .. } if code == "certificate_expired" => Standing::Expired,
            Self::Refused {
                status: 401 | 403, ..
            } => Standing::Rejected,
            Self::Refused { .. } | Self::Unreachable(_) | Self::Malformed(_) | Self::HostDisk(_) => {
                Standing::Same
            }
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot reach the control plane: {why}"),
            Self::Refused { status, detail, .. } => {
                write!(f, "the control plane refuses ({status}): {detail}")
            }
            Self::Malformed(why) => write!(f, "the control plane's answer makes no sense: {why}"),
            Self::HostDisk(why) => write!(f, "what is to be reported cannot be written: {why}"),
        }
    }
}

impl std::error::Error for TransportError {}
