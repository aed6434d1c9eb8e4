//! What may be asked for, and what is known when it is decided.

use jiff::Timestamp;
use plfm_api::control::{
    BlockRelease, ChangeRollout, Generation, HostId, Role, Rollback, SetDefault, SetPolicy, StartRollout,
    UnblockRelease,
};
use plfm_release::{Architecture, Protocol, ReleaseId, Sha256Digest};

use super::{EngineDecision, FoundRelease, RolloutChange, Sight};

/// A host that wants to belong to the fleet, whose request's signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The enrollment token's id.
    pub token_id: String,
    /// SHA-256 of its secret, as the host gave it.
    pub secret_sha256: Sha256Digest,
    /// The id that the host gets if it is new.
    pub host: HostId,
    /// What people call it.
    pub name: String,
    /// The agent's version.
    pub agent_version: semver::Version,
    /// The machine.
    pub arch: Architecture,
    /// SHA-256 of the public key in the request (SubjectPublicKeyInfo, DER).
    pub public_key_sha256: Sha256Digest,
    /// When the certificate would end.
    pub not_after: Timestamp,
}

/// What may be asked for.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "members mean what they mean in plfm_api::control")]
pub enum Command {
    SetDefault(SetDefault),
    Rollback(Rollback),
    Block(BlockRelease),
    Unblock(UnblockRelease),
    SetPolicy(SetPolicy),
    /// `id` is what it gets.
    StartRollout {
        id: String,
        request: Box<StartRollout>,
    },
    ChangeRollout {
        id: String,
        change: RolloutChange,
        request: ChangeRollout,
    },
    /// What was decided about the rollout under way.
    CarryOut(Box<EngineDecision>),
    /// Hosts go by a later generation than the log has, which was restored from a backup.
    RaiseGeneration {
        to: Generation,
        reason: String,
    },
    /// The registry has a release that verifies.
    FindRelease(FoundRelease),
    /// The registry has it no more, or its signature is not trusted any more.
    WithdrawRelease {
        release: ReleaseId,
        reason: String,
    },
    Enroll(Enrolment),
    RenewCertificate {
        host: HostId,
        public_key_sha256: Sha256Digest,
        not_after: Timestamp,
    },
    Drain {
        host: HostId,
        reason: Option<String>,
    },
    Undrain {
        host: HostId,
        reason: Option<String>,
    },
    RevokeHost {
        host: HostId,
        reason: Option<String>,
    },
    /// `created_by` is the name of whoever asks.
    CreateToken {
        id: String,
        name: String,
        role: Role,
        secret_sha256: Sha256Digest,
        created_by: String,
        valid_seconds: Option<u64>,
    },
    RevokeToken {
        id: String,
        reason: Option<String>,
    },
    CreateEnrollmentToken {
        id: String,
        host_name: Option<String>,
        secret_sha256: Sha256Digest,
        created_by: String,
        valid_seconds: Option<u64>,
    },
    RevokeEnrollmentToken {
        id: String,
        reason: Option<String>,
    },
}

/// Active hosts that are alike in what decides whether they can run a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionGroup {
    /// Their agent's version.
    pub agent_version: semver::Version,
    /// The protocols that it speaks.
    pub protocols: Vec<Protocol>,
    /// The machine.
    pub arch: Architecture,
    /// How many they are.
    pub hosts: u64,
    /// Some of them: id and name.
    pub examples: Vec<(HostId, String)>,
}

/// Active hosts that do not have a release installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The release.
    pub release: ReleaseId,
    /// How many lack it.
    pub hosts: u64,
    /// Of how many.
    pub active: u64,
    /// Names of some of them.
    pub examples: Vec<String>,
}

/// What is known when a command is decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The time.
    pub now: Timestamp,
    /// The active hosts by what they can run.
    pub versions: Vec<VersionGroup>,
    /// Who lacks the release that the command turned out to be about; see [`Refusal::NeedsLacking`](super::Refusal).
    pub lacking: Option<Lacking>,
    /// The hosts, for commands about a rollout.
    pub sight: Sight,
}

impl Context {
    /// A context for commands that are not about what hosts have.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            versions: Vec::new(),
            lacking: None,
            sight: Sight::default(),
        }
    }
}
