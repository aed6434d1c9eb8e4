//! A host gets its identity.

use jiff::Timestamp;
use plfm_api::control::{Actor, EnrolledHost, HostId};
use plfm_release::Architecture;

use super::{ClaimedToken, Control, ControlError};
use crate::authority::SigningRequest;
use crate::fleet::{Command, Enrolment, Fact};

/// A host that wants to belong to the fleet.
pub struct NewHost {
    /// What it came with.
    pub token: ClaimedToken,
    /// What people call it.
    pub name: String,
    /// Its key, which it proved to have.
    pub request: SigningRequest,
    /// The agent's version.
    pub agent_version: semver::Version,
    /// The machine.
    pub arch: Architecture,
    /// Where it came from.
    pub address: String,
    /// The request.
    pub request_id: String,
}

impl Control {
    /// Whether an enrollment token may work, as far as the log was read.
    pub fn may_enroll(&self, token: &ClaimedToken) -> bool {
        let fleet = self.fleet();
        let record = fleet.enrollment_tokens().get(&token.id);
        record.is_some_and(|record| token.has_secret(&record.secret_sha256))
    }

    /// Lets a host into the fleet. The same host may ask again with the same key if the answer was lost.
    pub async fn enroll(&self, new: NewHost) -> Result<EnrolledHost, ControlError> {
        let now = Timestamp::now();
        let id = new_host_id()?;
        let command = Command::Enroll(Enrolment {
            token_id: new.token.id,
            secret_sha256: new.token.secret_sha256,
            host: id.clone(),
            name: new.name.clone(),
            agent_version: new.agent_version,
            arch: new.arch,
            public_key_sha256: new.request.public_key_sha256(),
            not_after: self.0.authority.host_certificate_end(now)?,
        });
        let actor = Actor {
            kind: "host".to_owned(),
            id: id.to_string(),
            name: new.name,
            address: Some(new.address),
            request_id: Some(new.request_id),
        };
        let done = self.execute(&command, &actor).await?;
        let host = done.decision.facts.iter().find_map(enrolled).unwrap_or(&id);
        self.certify(host, &new.request, now)
    }

    /// Another certificate for a host, before the one that it has ends.
    pub async fn renew(
        &self,
        host: &HostId,
        request: &SigningRequest,
        actor: &Actor,
    ) -> Result<EnrolledHost, ControlError> {
        let now = Timestamp::now();
        let command = Command::RenewCertificate {
            host: host.clone(),
            public_key_sha256: request.public_key_sha256(),
            not_after: self.0.authority.host_certificate_end(now)?,
        };
        self.execute(&command, actor).await?;
        self.certify(host, request, now)
    }

    /// The certificate that the log has by now.
    fn certify(
        &self,
        host: &HostId,
        request: &SigningRequest,
        now: Timestamp,
    ) -> Result<EnrolledHost, ControlError> {
        let issued = self.0.authority.issue(host, request, now)?;
        Ok(EnrolledHost {
            host: host.clone(),
            certificate: issued.chain_pem,
            not_after: issued.not_after,
            renew_after: issued.renew_after,
        })
    }
}

fn enrolled(fact: &Fact) -> Option<&HostId> {
    match fact {
        Fact::HostEnrolled { host, .. } | Fact::CertificateIssued { host, .. } => Some(host),
        _ => None,
    }
}

fn new_host_id() -> Result<HostId, ControlError> {
    Ok(ulid::Ulid::generate().to_string().parse()?)
}
