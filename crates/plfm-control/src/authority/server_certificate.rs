use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::issue::{common_name, two_thirds};
use super::{Authority, IssueError, whole_seconds};

/// How long the control plane's own certificate is valid. It makes itself another one long before.
pub const SERVER_CERTIFICATE_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);

/// What the control plane shows to those who connect. Has no `Debug`: the key is a secret, and in memory only.
pub struct ServerCertificate {
    /// It, and what it is issued by.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// When it ends.
    pub not_after: Timestamp,
    /// From when on another one is made.
    pub renew_after: Timestamp,
}

impl Authority {
    /// A certificate for the names and addresses that the control plane is reached by, with a new key.
    pub fn issue_server(&self, names: &[String], now: Timestamp) -> Result<ServerCertificate, IssueError> {
        let mut params = self.params(now, SERVER_CERTIFICATE_LIFE)?;
        let Some(first) = names.first() else {
            return Err(IssueError::Name(String::new()));
        };
        for name in names {
            let named =
                CertificateParams::new(vec![name.clone()]).map_err(|_| IssueError::Name(name.clone()))?;
            params.subject_alt_names.extend(named.subject_alt_names);
        }
        params.distinguished_name = common_name(first);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(IssueError::Make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(IssueError::Make)?;
        let not_after = whole_seconds(self.ends(now, SERVER_CERTIFICATE_LIFE));
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Ok(ServerCertificate {
            chain,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            not_after,
            renew_after: two_thirds(now, not_after),
        })
    }
}
