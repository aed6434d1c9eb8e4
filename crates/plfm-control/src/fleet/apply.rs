//! Facts into the state.

use jiff::Timestamp;
use plfm_api::control::{Event, Generation, HostId};
use plfm_release::ReleaseId;

use super::state::{EnrollmentTokenRecord, HostRecord, HostStanding, ReleaseRecord, TokenRecord, Was};
use super::{Fact, FactError, FleetState, FoundRelease};

/// Why the fleet was taken back, where nobody said it.
const NO_REASON: &str = "an operator took the fleet back from it and gave no reason";

/// Why an event cannot become part of the state.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It cannot be read.
    #[error(transparent)]
    Unknown(#[from] FactError),
    /// It is not the next one.
    #[error("event {found} came where event {expected} was due")]
    OutOfOrder {
        /// The next place in the log.
        expected: u64,
        /// The place that the event has.
        found: u64,
    },
    /// It is about something that the log never told of, or lowers the generation: the log is damaged.
    #[error("event {position} does not follow from those before it: {what}")]
    Inconsistent {
        /// Its place in the log.
        position: u64,
        /// What is wrong.
        what: String,
    },
}

impl FleetState {
    /// Takes the next event in.
    ///
    /// # Errors
    /// [`ApplyError`]; the state is what it was before.
    pub fn apply(&mut self, event: &Event) -> Result<(), ApplyError> {
        let expected = self.position + 1;
        if event.position != expected {
            return Err(ApplyError::OutOfOrder {
                expected,
                found: event.position,
            });
        }
        let fact = Fact::of(event)?;
        let inconsistent = |what| ApplyError::Inconsistent {
            position: event.position,
            what,
        };
        self.take(fact, event).map_err(inconsistent)?;
        self.position = event.position;
        Ok(())
    }

    fn take(&mut self, fact: Fact, event: &Event) -> Result<(), String> {
        let at = event.at;
        match fact {
            Fact::DefaultSet {
                generation, release, ..
            } => {
                self.raise(generation)?;
                self.defaults.push(Was {
                    generation,
                    release,
                    at,
                });
            }
            Fact::RolledBack {
                generation,
                release,
                from,
                reason,
                ..
            } => {
                self.release_mut(&from)?;
                self.raise(generation)?;
                self.release_mut(&from)?.rolled_back = Some(reason.unwrap_or_else(|| NO_REASON.to_owned()));
                self.rolled_back_at = Some(at);
                self.push_default(release, at);
            }
            Fact::PolicySet {
                generation, policy, ..
            } => {
                self.raise(generation)?;
                self.policy = policy;
            }
            Fact::ReleaseBlocked {
                generation,
                release,
                reason,
            } => {
                self.release_mut(&release)?;
                self.raise(generation)?;
                self.release_mut(&release)?.blocked = Some(reason);
            }
            Fact::ReleaseUnblocked {
                generation, release, ..
            } => {
                self.release_mut(&release)?;
                self.raise(generation)?;
                let record = self.release_mut(&release)?;
                (record.blocked, record.rolled_back) = (None, None);
            }
            Fact::GenerationRaised { generation, .. } => {
                if generation <= self.generation {
                    return Err(format!(
                        "generation {generation} is not above {}",
                        self.generation
                    ));
                }
                self.generation = generation;
            }
            Fact::ReleaseFound { found, generation } => {
                generation.map_or(Ok(()), |generation| self.raise(generation))?;
                self.take_release(found, at);
            }
            Fact::ReleaseWithdrawn {
                release,
                reason,
                generation,
            } => {
                self.release_mut(&release)?;
                generation.map_or(Ok(()), |generation| self.raise(generation))?;
                self.release_mut(&release)?.withdrawn = Some(reason);
            }
            Fact::RolloutStarted(started) => self.take_start(started, event)?,
            Fact::RolloutMoved(step) => self.take_step(step, event)?,
            Fact::HostEnrolled {
                host,
                name,
                agent_version,
                arch,
                public_key_sha256,
                not_after,
                enrollment_token,
            } => {
                let token = self.enrollment_tokens.get_mut(&enrollment_token);
                let token =
                    token.ok_or_else(|| format!("there is no enrollment token {enrollment_token}"))?;
                token.used = Some((host.clone(), public_key_sha256));
                let record = HostRecord {
                    name,
                    standing: HostStanding::Enrolled,
                    agent_version,
                    arch,
                    enrolled_at: at,
                    not_after,
                };
                self.hosts.insert(host, record);
            }
            Fact::CertificateIssued { host, not_after, .. } => {
                self.host_mut(&host)?.not_after = not_after;
            }
            Fact::HostDrained { host, .. } => self.host_mut(&host)?.standing = HostStanding::Draining,
            Fact::HostUndrained { host, .. } => self.host_mut(&host)?.standing = HostStanding::Enrolled,
            Fact::HostRevoked { host, .. } => self.host_mut(&host)?.standing = HostStanding::Revoked,
            Fact::TokenCreated {
                id,
                name,
                role,
                secret_sha256,
                created_by,
                expires_at,
            } => {
                let record = TokenRecord {
                    name,
                    role,
                    secret_sha256,
                    created_by,
                    created_at: at,
                    expires_at,
                    revoked: false,
                };
                self.tokens.insert(id, record);
            }
            Fact::TokenRevoked { id, .. } => {
                let token = self
                    .tokens
                    .get_mut(&id)
                    .ok_or_else(|| format!("there is no token {id}"))?;
                token.revoked = true;
            }
            Fact::EnrollmentTokenCreated {
                id,
                host_name,
                secret_sha256,
                created_by,
                expires_at,
            } => {
                let record = EnrollmentTokenRecord {
                    host_name,
                    secret_sha256,
                    created_by,
                    created_at: at,
                    expires_at,
                    revoked: false,
                    used: None,
                };
                self.enrollment_tokens.insert(id, record);
            }
            Fact::EnrollmentTokenRevoked { id, .. } => {
                let token = self.enrollment_tokens.get_mut(&id);
                token
                    .ok_or_else(|| format!("there is no enrollment token {id}"))?
                    .revoked = true;
            }
        }
        Ok(())
    }

    pub(super) fn raise(&mut self, generation: Generation) -> Result<(), String> {
        if generation.0 != self.generation.0 + 1 {
            return Err(format!(
                "generation {generation} does not follow {}",
                self.generation
            ));
        }
        self.generation = generation;
        Ok(())
    }

    /// What was said about a release outlives its absence.
    fn take_release(&mut self, found: FoundRelease, at: Timestamp) {
        match self.releases.get_mut(&found.release) {
            Some(record) => {
                record.found = found;
                record.withdrawn = None;
            }
            None => {
                let release = found.release.clone();
                let record = ReleaseRecord {
                    found,
                    found_at: at,
                    withdrawn: None,
                    blocked: None,
                    rolled_back: None,
                };
                self.releases.insert(release, record);
            }
        }
    }

    pub(super) fn release_mut(&mut self, release: &ReleaseId) -> Result<&mut ReleaseRecord, String> {
        self.releases
            .get_mut(release)
            .ok_or_else(|| format!("release {release} was never found"))
    }

    fn host_mut(&mut self, host: &HostId) -> Result<&mut HostRecord, String> {
        self.hosts
            .get_mut(host)
            .ok_or_else(|| format!("host {host} never enrolled"))
    }
}
