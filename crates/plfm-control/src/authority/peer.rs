use jiff::Timestamp;
use plfm_api::control::HostId;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a host's id is written after in its certificate, as the one subject alternative name.
pub const HOST_URI_PREFIX: &str = "urn:plfm:host:";

/// A host's certificate, as it came with a connection whose handshake proved issuer, purpose and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whose it is.
    pub host: HostId,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A certificate that names no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Not a certificate.
    #[error("the client certificate cannot be read")]
    Malformed,
    /// Somebody else's.
    #[error(
        "the client certificate is no host's: its one subject alternative name has to be {HOST_URI_PREFIX}<id>"
    )]
    NotAHost,
}

impl PeerCertificate {
    /// Reads whose certificate it is. Says nothing about who issued it: the handshake did.
    pub fn parse(der: &[u8]) -> Result<Self, PeerError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| PeerError::Malformed)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| PeerError::Malformed)?;
        let names = names.ok_or(PeerError::NotAHost)?;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
            return Err(PeerError::NotAHost);
        };
        let id = uri.strip_prefix(HOST_URI_PREFIX).ok_or(PeerError::NotAHost)?;
        let at = |seconds| Timestamp::from_second(seconds).map_err(|_| PeerError::Malformed);
        Ok(Self {
            host: id.parse().map_err(|_| PeerError::NotAHost)?,
            not_before: at(certificate.validity().not_before.timestamp())?,
            not_after: at(certificate.validity().not_after.timestamp())?,
        })
    }

    /// Whether it is valid at a moment. Asked with each request: connections outlive certificates.
    pub fn is_valid_at(&self, at: Timestamp) -> bool {
        let second = at.as_second();
        self.not_before.as_second() <= second && second <= self.not_after.as_second()
    }
}
