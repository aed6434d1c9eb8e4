//! The fleet as the facts so far make it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use plfm_api::control::{Canary, Generation, HostId, Policy, Role, Target, TokenState};
use plfm_release::{Architecture, ReleaseId, Sha256Digest};
use serde::Serialize;

use super::{FoundRelease, RolloutRecord};

/// A release that was found once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReleaseRecord {
    /// What its manifest says.
    pub found: FoundRelease,
    /// When it was first found.
    pub found_at: Timestamp,
    /// Why it is not there any more, if it is not.
    pub withdrawn: Option<String>,
    /// Why no new instance boots it, if so.
    pub blocked: Option<String>,
    /// Why the fleet was taken back from it, if it was.
    pub rolled_back: Option<String>,
}

/// A release that was the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Was {
    /// From which generation on.
    pub generation: Generation,
    /// The release.
    pub release: ReleaseId,
    /// Since when.
    pub at: Timestamp,
}

/// Whether a host may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum HostStanding {
    /// It may.
    Enrolled,
    /// It may, and takes no new instances.
    Draining,
    /// It may not.
    Revoked,
}

/// A host that enrolled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostRecord {
    /// What people call it.
    pub name: String,
    /// Whether it may speak.
    pub standing: HostStanding,
    /// The agent's version at enrolment.
    pub agent_version: semver::Version,
    /// The machine.
    pub arch: Architecture,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// When its last certificate ends.
    pub not_after: Timestamp,
}

/// An operator's token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenRecord {
    /// Whose it is.
    pub name: String,
    /// What it may.
    pub role: Role,
    /// SHA-256 of its secret.
    pub secret_sha256: Sha256Digest,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whether somebody took it back.
    pub revoked: bool,
}

/// A token for hosts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnrollmentTokenRecord {
    /// The one host name that may use it.
    pub host_name: Option<String>,
    /// SHA-256 of its secret.
    pub secret_sha256: Sha256Digest,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whether somebody took it back.
    pub revoked: bool,
    /// The host that used it, and SHA-256 of the public key that it came with.
    pub used: Option<(HostId, Sha256Digest)>,
}

impl TokenRecord {
    /// Whether it works.
    pub fn state(&self, now: Timestamp) -> TokenState {
        match (self.revoked, now < self.expires_at) {
            (true, _) => TokenState::Revoked,
            (false, true) => TokenState::Active,
            (false, false) => TokenState::Expired,
        }
    }
}

impl EnrollmentTokenRecord {
    /// Whether it can still be used.
    pub fn state(&self, now: Timestamp) -> TokenState {
        match (self.revoked, self.used.is_some(), now < self.expires_at) {
            (true, _, _) => TokenState::Revoked,
            (false, true, _) => TokenState::Used,
            (false, false, true) => TokenState::Active,
            (false, false, false) => TokenState::Expired,
        }
    }
}

/// The fleet. `Serialize` is for comparing two of them, and for people; nothing reads it back.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FleetState {
    /// The last event that is in it.
    pub(super) position: u64,
    pub(super) generation: Generation,
    pub(super) policy: Policy,
    /// What was the default, oldest first; the last one is.
    pub(super) defaults: Vec<Was>,
    pub(super) releases: BTreeMap<ReleaseId, ReleaseRecord>,
    /// Oldest first.
    pub(super) rollouts: Vec<RolloutRecord>,
    /// When the fleet was last taken back from any release.
    pub(super) rolled_back_at: Option<Timestamp>,
    pub(super) hosts: BTreeMap<HostId, HostRecord>,
    pub(super) tokens: BTreeMap<String, TokenRecord>,
    pub(super) enrollment_tokens: BTreeMap<String, EnrollmentTokenRecord>,
}

impl FleetState {
    /// The last event that is in it; 0 before the first.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The generation of the target.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What operators settled.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What was the default, oldest first; the last one is.
    pub fn defaults(&self) -> &[Was] {
        &self.defaults
    }

    /// What new instances boot.
    pub fn default_release(&self) -> Option<&ReleaseId> {
        self.defaults.last().map(|was| &was.release)
    }

    /// The releases that were found.
    pub fn releases(&self) -> &BTreeMap<ReleaseId, ReleaseRecord> {
        &self.releases
    }

    /// The hosts that enrolled.
    pub fn hosts(&self) -> &BTreeMap<HostId, HostRecord> {
        &self.hosts
    }

    /// The operators' tokens.
    pub fn tokens(&self) -> &BTreeMap<String, TokenRecord> {
        &self.tokens
    }

    /// The hosts' tokens.
    pub fn enrollment_tokens(&self) -> &BTreeMap<String, EnrollmentTokenRecord> {
        &self.enrollment_tokens
    }

    /// Whether new instances may boot it.
    pub fn is_bootable(&self, release: &ReleaseId) -> bool {
        self.releases
            .get(release)
            .is_some_and(|record| record.blocked.is_none() && record.withdrawn.is_none())
    }

    /// Where a rollback goes: the newest earlier default that is there, not blocked, and that the fleet was not taken back
    /// from.
    pub fn known_good(&self) -> Option<&Was> {
        let current = self.default_release()?;
        self.defaults.iter().rev().find(|was| {
            was.release != *current
                && self
                    .releases
                    .get(&was.release)
                    .is_some_and(ReleaseRecord::is_good)
        })
    }

    /// A release that some new instances boot: the rollout's, or the policy's where there is no rollout.
    pub fn canary(&self) -> Option<&Canary> {
        match self.rollout_under_way() {
            Some(rollout) => rollout.orders.canary.as_ref(),
            None => self.policy.canary.as_ref(),
        }
    }

    /// What hosts are told.
    pub fn target(&self) -> Target {
        let bootable = |release: &ReleaseId| self.is_bootable(release);
        let policy = &self.policy;
        let orders = self.rollout_under_way().map(|rollout| &rollout.orders);
        let default = match orders {
            Some(orders) => orders.default.clone(),
            None => self.default_release().cloned(),
        };
        let is_blocked = |release: &ReleaseId| {
            self.releases
                .get(release)
                .is_some_and(|record| record.blocked.is_some())
        };
        let prefetch = policy
            .prefetch
            .iter()
            .chain(orders.and_then(|orders| orders.prefetch.as_ref()));
        let blocked = self
            .releases
            .iter()
            .filter(|(_, record)| record.blocked.is_some());
        Target {
            generation: self.generation,
            default: default.filter(|release| !is_blocked(release)),
            previous: self.known_good().map(|was| was.release.clone()),
            canary: self.canary().filter(|canary| bootable(&canary.release)).cloned(),
            pins: policy
                .pins
                .clone()
                .into_iter()
                .filter(|(_, release)| bootable(release))
                .collect(),
            prefetch: prefetch.filter(|release| bootable(release)).cloned().collect(),
            blocked: blocked.map(|(release, _)| release.clone()).collect(),
            window: policy.window.clone(),
        }
    }
}

impl ReleaseRecord {
    /// Whether a rollback may go to it.
    pub fn is_good(&self) -> bool {
        self.withdrawn.is_none() && self.blocked.is_none() && self.rolled_back.is_none()
    }
}
