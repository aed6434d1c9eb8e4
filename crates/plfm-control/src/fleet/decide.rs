//! Commands into facts.

use plfm_api::control::{Generation, Receipt};
use plfm_release::ReleaseId;

use super::{Command, Context, Fact, FleetState, Refusal};

/// How far the generation may be raised at once: changes that a backup may lack. One host's word must not use up the
/// numbers.
const GENERATION_STEP_MAX: u64 = 1_000_000;

/// What a command comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// What happens; nothing, if it is so already.
    pub facts: Vec<Fact>,
    /// What changed, in words.
    pub summary: String,
    /// The release that it is about.
    pub release: Option<ReleaseId>,
    /// What it replaces.
    pub previous_release: Option<ReleaseId>,
    /// The rollout that it is about.
    pub rollout: Option<String>,
    /// Why that one, if the choice was not the operator's.
    pub why: Option<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// The command that takes it back.
    pub undo: Option<String>,
    /// The command that shows how it goes.
    pub watch: Option<String>,
}

impl Decision {
    pub(super) fn of(fact: Fact, summary: impl Into<String>) -> Self {
        Self {
            facts: vec![fact],
            summary: summary.into(),
            ..Self::default()
        }
    }

    /// Nothing is to be done: it is so already.
    pub(super) fn unchanged(summary: impl Into<String>) -> Self {
        Self {
            summary: summary.into(),
            ..Self::default()
        }
    }

    /// What the operator gets. `event` is the place of the last fact in the log.
    pub fn receipt(self, before: Generation, event: Option<u64>, request_id: String) -> Receipt {
        let changed = !self.facts.is_empty();
        Receipt {
            summary: self.summary,
            changed,
            generation: self
                .facts
                .iter()
                .rev()
                .find_map(Fact::generation)
                .unwrap_or(before),
            previous_generation: before,
            event: event.filter(|_| changed),
            release: self.release,
            rollout: self.rollout,
            previous_release: self.previous_release,
            why: self.why,
            warnings: self.warnings,
            undo: self.undo.filter(|_| changed),
            watch: self.watch.filter(|_| changed),
            request_id,
        }
    }
}

impl FleetState {
    /// What a command comes to. Deterministic.
    ///
    /// # Errors
    /// [`Refusal`], with a stable code and something to do about it.
    pub fn decide(&self, command: &Command, context: &Context) -> Result<Decision, Refusal> {
        match command {
            Command::SetDefault(request) => self.set_default(request, context),
            Command::Rollback(request) => self.roll_back(request, context),
            Command::Block(request) => self.block(request),
            Command::Unblock(request) => self.unblock(request),
            Command::SetPolicy(request) => self.set_policy(request),
            Command::StartRollout { id, request } => self.start_rollout(id, request, context),
            Command::ChangeRollout { id, change, request } => {
                self.change_rollout(id, *change, request, context)
            }
            Command::CarryOut(made) => self.carry_out(made),
            Command::RaiseGeneration { to, reason } => self.raise_generation(*to, reason),
            Command::FindRelease(found) => Ok(self.find_release(found)),
            Command::WithdrawRelease { release, reason } => self.withdraw_release(release, reason),
            Command::Enroll(enrolment) => self.enroll(enrolment, context),
            Command::RenewCertificate {
                host,
                public_key_sha256,
                not_after,
            } => self.renew_certificate(host, *public_key_sha256, *not_after),
            Command::Drain { host, reason } => self.drain(host, reason.clone()),
            Command::Undrain { host, reason } => self.undrain(host, reason.clone()),
            Command::RevokeHost { host, reason } => self.revoke_host(host, reason.clone()),
            Command::CreateToken {
                id,
                name,
                role,
                secret_sha256,
                created_by,
                valid_seconds,
            } => {
                let expires_at = super::tokens::token_end(*valid_seconds, context.now)?;
                super::tokens::check_name(name)?;
                let fact = Fact::TokenCreated {
                    id: id.clone(),
                    name: name.clone(),
                    role: *role,
                    secret_sha256: *secret_sha256,
                    created_by: created_by.clone(),
                    expires_at,
                };
                Ok(Decision::of(fact, format!("token {id} made for {name}")))
            }
            Command::RevokeToken { id, reason } => self.revoke_token(id, reason.clone(), context.now),
            Command::CreateEnrollmentToken {
                id,
                host_name,
                secret_sha256,
                created_by,
                valid_seconds,
            } => {
                let expires_at = super::tokens::enrollment_token_end(*valid_seconds, context.now)?;
                if let Some(name) = host_name {
                    super::hosts::check_name(name)?;
                }
                let fact = Fact::EnrollmentTokenCreated {
                    id: id.clone(),
                    host_name: host_name.clone(),
                    secret_sha256: *secret_sha256,
                    created_by: created_by.clone(),
                    expires_at,
                };
                Ok(Decision::of(fact, format!("enrollment token {id} made")))
            }
            Command::RevokeEnrollmentToken { id, reason } => self.revoke_enrollment_token(id, reason.clone()),
        }
    }

    fn raise_generation(&self, to: Generation, reason: &str) -> Result<Decision, Refusal> {
        if to <= self.generation {
            let detail = format!(
                "the fleet is at generation {}, which is not below {to}",
                self.generation
            );
            return Err(Refusal::conflict("generation_not_above", detail)
                .hint("a generation only rises; hosts that go by a lower one follow by themselves"));
        }
        if to.0 - self.generation.0 > GENERATION_STEP_MAX {
            let detail = format!(
                "{to} is more than {GENERATION_STEP_MAX} above {}: no fleet has come so far",
                self.generation
            );
            return Err(Refusal::invalid("generation_out_of_range", detail)
                .hint("a host that says so lies: `plfm admin hosts list` shows what each says"));
        }
        let fact = Fact::GenerationRaised {
            generation: to,
            reason: reason.to_owned(),
        };
        Ok(Decision::of(fact, format!("generation raised to {to}")))
    }

    pub(super) fn next_generation(&self) -> Generation {
        Generation(self.generation.0 + 1)
    }

    /// The fleet is where the operator believes it to be.
    pub(super) fn check_generation(&self, expected: Option<Generation>) -> Result<(), Refusal> {
        match expected {
            Some(expected) if expected != self.generation => {
                let detail = format!(
                    "the fleet is at generation {} by now, not at {expected}: somebody else changed it",
                    self.generation
                );
                Err(Refusal::conflict("generation_moved", detail)
                    .hint("look at what changed (`plfm admin events list`), then decide again"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
