use jiff::{SignedDuration, Timestamp};
use plfm_api::control::HostId;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
    SerialNumber,
};

use super::{Authority, HOST_URI_PREFIX, SigningRequest, render_pem, whole_seconds};

/// How long a host's certificate is valid: long enough for a host to be off for a week after the time to renew.
pub const HOST_CERTIFICATE_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How far clocks may differ when a certificate is fresh.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// A certificate for a host.
#[derive(Debug, Clone)]
pub struct HostCertificate {
    /// It, and what it is issued by, PEM.
    pub chain_pem: String,
    /// When it ends.
    pub not_after: Timestamp,
    /// From when on another one should be asked for: two thirds of its life.
    pub renew_after: Timestamp,
}

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The issuer's own certificate is over.
    #[error("the certificate authority's own certificate ended at {0}")]
    AuthorityExpired(Timestamp),
    /// A name that no certificate can have.
    #[error("{0:?} is no name for a certificate")]
    Name(String),
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The library refused.
    #[error("the certificate cannot be made")]
    Make(#[source] rcgen::Error),
}

impl IssueError {
    /// Stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AuthorityExpired(_) => "authority_expired",
            Self::Name(_) => "certificate_name_malformed",
            Self::Random | Self::Make(_) => "certificate_not_made",
        }
    }
}

impl Authority {
    /// Certifies that whoever has the request's key is this host.
    pub fn issue(
        &self,
        host: &HostId,
        request: &SigningRequest,
        now: Timestamp,
    ) -> Result<HostCertificate, IssueError> {
        let mut params = self.params(now, HOST_CERTIFICATE_LIFE)?;
        let uri = format!("{HOST_URI_PREFIX}{host}");
        let uri = uri.try_into().map_err(IssueError::Make)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.distinguished_name = common_name(host.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let not_after = self.host_certificate_end(now)?;
        let certificate = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(IssueError::Make)?;
        Ok(HostCertificate {
            chain_pem: render_pem(certificate.der()) + &self.chain_pem(),
            not_after,
            renew_after: two_thirds(now, not_after),
        })
    }

    /// When a host's certificate ends that is issued now.
    pub fn host_certificate_end(&self, now: Timestamp) -> Result<Timestamp, IssueError> {
        if now >= self.not_after {
            return Err(IssueError::AuthorityExpired(self.not_after));
        }
        Ok(whole_seconds(self.ends(now, HOST_CERTIFICATE_LIFE)))
    }

    /// What every certificate of this authority has in common.
    pub(super) fn params(
        &self,
        now: Timestamp,
        life: SignedDuration,
    ) -> Result<CertificateParams, IssueError> {
        if now >= self.not_after {
            return Err(IssueError::AuthorityExpired(self.not_after));
        }
        let mut params = CertificateParams::default();
        let from = now.checked_sub(CLOCK_SLACK).unwrap_or(now);
        set_validity(&mut params, from, self.ends(now, life));
        params.serial_number = Some(random_serial()?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    /// The end of a certificate that is made now: never after the issuer's own.
    pub(super) fn ends(&self, now: Timestamp, life: SignedDuration) -> Timestamp {
        now.checked_add(life).unwrap_or(now).min(self.not_after)
    }
}

pub(super) fn two_thirds(from: Timestamp, to: Timestamp) -> Timestamp {
    let life = to.as_second() - from.as_second();
    Timestamp::from_second(from.as_second() + life / 3 * 2).unwrap_or(to)
}

pub(super) fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Sixteen random bytes, positive: no two certificates of an issuer have the same (RFC 5280, 4.1.2.2).
pub(super) fn random_serial() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| IssueError::Random)?;
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

/// Says from when to when a certificate is valid.
pub(super) fn set_validity(params: &mut CertificateParams, from: Timestamp, to: Timestamp) {
    let seconds = |at: Timestamp| std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + seconds(from);
    params.not_after = epoch + seconds(to);
}
