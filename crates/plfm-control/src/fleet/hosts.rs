//! Commands about hosts.

use jiff::Timestamp;
use plfm_api::control::HostId;
use plfm_release::Sha256Digest;

use super::state::{HostRecord, HostStanding};
use super::{Context, Decision, Enrolment, Fact, FleetState, Refusal, RefusalKind};

/// Longest host name (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// A host's name: what `hostname` prints.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_part) {
        let detail = format!(
            "{name:?} is not a host name: letters, digits, `-`, `_` and `.`, {NAME_BYTES_MAX} at most"
        );
        return Err(Refusal::invalid("host_name_invalid", detail));
    }
    Ok(())
}

/// One answer for all that is wrong with a token: who guesses learns nothing.
fn refused_token() -> Refusal {
    let detail = "the enrollment token is not valid: unknown, used, expired, revoked, or for another host";
    Refusal::no(RefusalKind::Unauthorized, "enrollment_token_invalid", detail)
        .hint("have an operator make a new one: `plfm admin hosts enroll-token`")
}

impl FleetState {
    pub(super) fn enroll(&self, enrolment: &Enrolment, context: &Context) -> Result<Decision, Refusal> {
        let token = self.enrollment_tokens.get(&enrolment.token_id);
        let token = token
            .filter(|token| token.secret_sha256 == enrolment.secret_sha256)
            .ok_or_else(refused_token)?;
        if token.revoked || context.now >= token.expires_at {
            return Err(refused_token());
        }
        check_name(&enrolment.name)?;
        if token
            .host_name
            .as_ref()
            .is_some_and(|name| *name != enrolment.name)
        {
            return Err(refused_token());
        }
        match &token.used {
            None => Ok(Decision::of(
                self.enrolled(enrolment),
                format!("enrolled {}", enrolment.name),
            )),
            // The answer was lost and the host asks again: it has the key that it came with.
            Some((host, key)) if *key == enrolment.public_key_sha256 => {
                self.host(host)?;
                let fact = Fact::CertificateIssued {
                    host: host.clone(),
                    public_key_sha256: *key,
                    not_after: enrolment.not_after,
                };
                Ok(Decision::of(
                    fact,
                    format!("enrolled {} once more", enrolment.name),
                ))
            }
            Some(_) => Err(refused_token()),
        }
    }

    fn enrolled(&self, enrolment: &Enrolment) -> Fact {
        Fact::HostEnrolled {
            host: enrolment.host.clone(),
            name: enrolment.name.clone(),
            agent_version: enrolment.agent_version.clone(),
            arch: enrolment.arch,
            public_key_sha256: enrolment.public_key_sha256,
            not_after: enrolment.not_after,
            enrollment_token: enrolment.token_id.clone(),
        }
    }

    /// The host that an enrolment is for: the one that used the token before with the same key, else the new one.
    pub fn enrolling_host(&self, enrolment: &Enrolment) -> HostId {
        let used = self
            .enrollment_tokens
            .get(&enrolment.token_id)
            .and_then(|token| token.used.as_ref());
        match used {
            Some((host, key)) if *key == enrolment.public_key_sha256 => host.clone(),
            Some(_) | None => enrolment.host.clone(),
        }
    }

    /// A host that may speak.
    ///
    /// # Errors
    /// It never enrolled, or was revoked.
    pub fn host(&self, host: &HostId) -> Result<&HostRecord, Refusal> {
        match self.hosts.get(host) {
            Some(record) if record.standing == HostStanding::Revoked => {
                let detail = format!("host {host} ({}) was revoked", record.name);
                Err(Refusal::conflict("host_revoked", detail)
                    .hint("to take it back, let it enrol anew: `plfm admin hosts enroll-token`"))
            }
            Some(record) => Ok(record),
            None => Err(
                Refusal::not_found("host_unknown", format!("there is no host {host}"))
                    .hint("see `plfm admin hosts list`"),
            ),
        }
    }

    pub(super) fn renew_certificate(
        &self,
        host: &HostId,
        public_key_sha256: Sha256Digest,
        not_after: Timestamp,
    ) -> Result<Decision, Refusal> {
        self.host(host)?;
        let fact = Fact::CertificateIssued {
            host: host.clone(),
            public_key_sha256,
            not_after,
        };
        Ok(Decision::of(fact, format!("certificate issued to {host}")))
    }

    pub(super) fn drain(&self, host: &HostId, reason: Option<String>) -> Result<Decision, Refusal> {
        let record = self.host(host)?;
        if record.standing == HostStanding::Draining {
            return Ok(Decision::unchanged(format!(
                "{} is draining already",
                record.name
            )));
        }
        let summary = format!("draining {}", record.name);
        let host = host.clone();
        Ok(Decision {
            undo: Some(format!("plfm admin hosts undrain {host}")),
            watch: Some(format!("plfm admin hosts show {host}")),
            ..Decision::of(Fact::HostDrained { host, reason }, summary)
        })
    }

    pub(super) fn undrain(&self, host: &HostId, reason: Option<String>) -> Result<Decision, Refusal> {
        let record = self.host(host)?;
        if record.standing == HostStanding::Enrolled {
            return Ok(Decision::unchanged(format!("{} is not draining", record.name)));
        }
        let summary = format!("{} takes instances again", record.name);
        let host = host.clone();
        Ok(Decision {
            undo: Some(format!("plfm admin hosts drain {host}")),
            watch: Some(format!("plfm admin hosts show {host}")),
            ..Decision::of(Fact::HostUndrained { host, reason }, summary)
        })
    }

    pub(super) fn revoke_host(&self, host: &HostId, reason: Option<String>) -> Result<Decision, Refusal> {
        let record = self.hosts.get(host);
        let record = record.ok_or_else(|| {
            Refusal::not_found("host_unknown", format!("there is no host {host}"))
                .hint("see `plfm admin hosts list`")
        })?;
        if record.standing == HostStanding::Revoked {
            return Ok(Decision::unchanged(format!("{} is revoked already", record.name)));
        }
        let summary = format!(
            "revoked {}: its instances run on, it is told nothing any more",
            record.name
        );
        let host = host.clone();
        Ok(Decision::of(Fact::HostRevoked { host, reason }, summary))
    }
}
