//! What can happen, as it is in the log.

use jiff::Timestamp;
use plfm_api::control::{Event, Generation, HostId, Policy, Role, RolloutPlan};
use plfm_release::{Architecture, Compatibility, KeyId, Protocol, ReleaseId, Sha256Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rollouts::{Orders, RolloutStep};

/// A release that the registry lists, as its verified manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRelease {
    /// Its id.
    pub release: ReleaseId,
    /// The machine that it is for.
    pub arch: Architecture,
    /// The protocol that its guest init speaks.
    pub protocol: Protocol,
    /// What it asks of an agent.
    pub compatibility: Compatibility,
    /// SHA-256 of the signed manifest.
    pub manifest_sha256: Sha256Digest,
    /// The key that signed it.
    pub key_id: KeyId,
}

/// A rollout that begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Its id, a ULID.
    pub rollout: String,
    /// The generation from then on.
    pub generation: Generation,
    /// What is rolled out.
    pub release: ReleaseId,
    /// What is the default until then.
    pub baseline: ReleaseId,
    /// The whole plan.
    pub plan: RolloutPlan,
    /// Boots of one host that count in a round.
    pub votes: u32,
    /// What hosts are told.
    pub orders: Orders,
    /// Why, in words.
    pub why: String,
    /// What an operator should know beside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
#[allow(missing_docs, reason = "members mean what they mean in the commands")]
pub enum Fact {
    /// New instances boot another release.
    DefaultSet {
        generation: Generation,
        release: ReleaseId,
        previous: Option<ReleaseId>,
        reason: Option<String>,
    },
    /// The fleet was taken back.
    RolledBack {
        generation: Generation,
        release: ReleaseId,
        from: ReleaseId,
        why: String,
        reason: Option<String>,
    },
    /// Operators settled something.
    PolicySet {
        generation: Generation,
        policy: Policy,
        reason: Option<String>,
    },
    /// No new instance boots the release.
    ReleaseBlocked {
        generation: Generation,
        release: ReleaseId,
        reason: String,
    },
    /// New instances may boot the release again.
    ReleaseUnblocked {
        generation: Generation,
        release: ReleaseId,
        reason: Option<String>,
    },
    /// After a restore from a backup: hosts go by a generation that this log does not know any more.
    GenerationRaised { generation: Generation, reason: String },
    /// The registry has a release, and it is to be trusted. With a generation where it changes what hosts are told.
    ReleaseFound {
        #[serde(flatten)]
        found: FoundRelease,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    /// The registry has it no more, or it is not to be trusted any more. With a generation where it changes what hosts are
    /// told.
    ReleaseWithdrawn {
        release: ReleaseId,
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    /// A release begins to go out in waves.
    RolloutStarted(Started),
    /// Something happened to the rollout under way.
    RolloutMoved(RolloutStep),
    /// A host belongs to the fleet.
    HostEnrolled {
        host: HostId,
        name: String,
        agent_version: semver::Version,
        arch: Architecture,
        public_key_sha256: Sha256Digest,
        not_after: Timestamp,
        enrollment_token: String,
    },
    /// A host has another certificate.
    CertificateIssued {
        host: HostId,
        public_key_sha256: Sha256Digest,
        not_after: Timestamp,
    },
    /// A host takes no new instances.
    HostDrained { host: HostId, reason: Option<String> },
    /// A host takes instances again.
    HostUndrained { host: HostId, reason: Option<String> },
    /// A host belongs to the fleet no more.
    HostRevoked { host: HostId, reason: Option<String> },
    /// An operator can do something.
    TokenCreated {
        id: String,
        name: String,
        role: Role,
        secret_sha256: Sha256Digest,
        created_by: String,
        expires_at: Timestamp,
    },
    /// And no more.
    TokenRevoked { id: String, reason: Option<String> },
    /// A host may enrol.
    EnrollmentTokenCreated {
        id: String,
        host_name: Option<String>,
        secret_sha256: Sha256Digest,
        created_by: String,
        expires_at: Timestamp,
    },
    /// And no more.
    EnrollmentTokenRevoked { id: String, reason: Option<String> },
}

/// An event that this version of the control plane does not know.
#[derive(Debug, thiserror::Error)]
#[error(
    "event {position} of kind {kind:?} cannot be read: a newer version of the control plane wrote it, or the log is damaged"
)]
pub struct FactError {
    /// Its place in the log.
    pub position: u64,
    /// What it says it is.
    pub kind: String,
    #[source]
    source: serde_json::Error,
}

impl Fact {
    /// What the log says.
    ///
    /// # Errors
    /// [`FactError`] for a kind or a shape that is not known.
    pub fn of(event: &Event) -> Result<Self, FactError> {
        let document = json!({ "kind": event.kind, "detail": event.detail });
        serde_json::from_value(document).map_err(|source| FactError {
            position: event.position,
            kind: event.kind.clone(),
            source,
        })
    }

    /// What it is about: the log numbers the facts about each thing.
    pub fn aggregate(&self) -> String {
        match self {
            Self::DefaultSet { .. }
            | Self::RolledBack { .. }
            | Self::PolicySet { .. }
            | Self::ReleaseBlocked { .. }
            | Self::ReleaseUnblocked { .. }
            | Self::GenerationRaised { .. } => "fleet".to_owned(),
            Self::ReleaseFound {
                found: FoundRelease { release, .. },
                ..
            }
            | Self::ReleaseWithdrawn { release, .. } => {
                format!("release/{release}")
            }
            Self::RolloutStarted(Started { rollout, .. })
            | Self::RolloutMoved(RolloutStep { rollout, .. }) => {
                format!("rollout/{rollout}")
            }
            Self::HostEnrolled { host, .. }
            | Self::CertificateIssued { host, .. }
            | Self::HostDrained { host, .. }
            | Self::HostUndrained { host, .. }
            | Self::HostRevoked { host, .. } => format!("host/{host}"),
            Self::TokenCreated { id, .. } | Self::TokenRevoked { id, .. } => format!("token/{id}"),
            Self::EnrollmentTokenCreated { id, .. } | Self::EnrollmentTokenRevoked { id, .. } => {
                format!("enrollment-token/{id}")
            }
        }
    }

    /// The generation from it on, if it is about what hosts are told.
    pub fn generation(&self) -> Option<Generation> {
        match self {
            Self::DefaultSet { generation, .. }
            | Self::RolledBack { generation, .. }
            | Self::PolicySet { generation, .. }
            | Self::ReleaseBlocked { generation, .. }
            | Self::ReleaseUnblocked { generation, .. }
            | Self::GenerationRaised { generation, .. }
            | Self::RolloutStarted(Started { generation, .. }) => Some(*generation),
            Self::RolloutMoved(RolloutStep { generation, .. }) => *generation,
            Self::ReleaseFound { generation, .. } | Self::ReleaseWithdrawn { generation, .. } => *generation,
            Self::HostEnrolled { .. }
            | Self::CertificateIssued { .. }
            | Self::HostDrained { .. }
            | Self::HostUndrained { .. }
            | Self::HostRevoked { .. }
            | Self::TokenCreated { .. }
            | Self::TokenRevoked { .. }
            | Self::EnrollmentTokenCreated { .. }
            | Self::EnrollmentTokenRevoked { .. } => None,
        }
    }

    /// Its kind and the rest of it, as the log has them.
    pub fn to_log(&self) -> (String, Value) {
        let document = serde_json::to_value(self).unwrap_or_default();
        let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
        let detail = document.get("detail").cloned().unwrap_or_default();
        (kind.to_owned(), detail)
    }
}
