use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authority::{Authority, AuthorityFileError, IssueError};
use crate::authority::{check_private, load_certificates, read};

/// How often the operator's files are read again: whoever puts others there need not tell us.
const FILES_READ_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// The control plane's certificate of now.
pub struct ServerIdentity {
    source: Source,
    current: RwLock<Current>,
}

enum Source {
    /// Made by our own authority, for these names.
    Issued(Arc<Authority>, Vec<String>),
    /// The operator's files, read again every [`FILES_READ_EVERY`].
    Files { certificate: PathBuf, key: PathBuf },
}

struct Current {
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
    renew_after: Timestamp,
}

/// There is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// None could be made.
    #[error("cannot make the control plane's own certificate")]
    Issue(#[from] IssueError),
    /// It cannot be read.
    #[error(transparent)]
    Files(#[from] AuthorityFileError),
    /// No pair that TLS can use: two files of which only one was replaced so far, above all.
    #[error("the control plane's certificate and key cannot be used together")]
    Unusable(#[source] rustls::Error),
    /// Nobody would take it.
    #[error("the certificate in {} ended at {}", .0.display(), .1)]
    Ended(PathBuf, Timestamp),
}

impl ServerIdentity {
    /// A certificate of our own authority.
    pub fn issued(
        authority: Arc<Authority>,
        names: Vec<String>,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        Self::new(Source::Issued(authority, names), now)
    }

    /// The operator's certificate.
    pub fn files(certificate: PathBuf, key: PathBuf, now: Timestamp) -> Result<Self, IdentityError> {
        Self::new(Source::Files { certificate, key }, now)
    }

    fn new(source: Source, now: Timestamp) -> Result<Self, IdentityError> {
        let current = RwLock::new(source.load(now)?);
        Ok(Self { source, current })
    }

    /// Makes or reads another certificate if it is time to. Whether there is another one: new connections get it, open ones
    /// stay as they are.
    pub fn renew(&self, now: Timestamp) -> Result<bool, IdentityError> {
        if now < self.read().renew_after {
            return Ok(false);
        }
        self.replace(now)
    }

    /// The same, but the operator's files are read whether it is time to or not.
    pub fn reload(&self, now: Timestamp) -> Result<bool, IdentityError> {
        match self.source {
            Source::Files { .. } => self.replace(now),
            Source::Issued(..) => self.renew(now),
        }
    }

    /// How long there is nothing to do for [`renew`](Self::renew).
    pub fn rests(&self, now: Timestamp) -> Duration {
        let left = self.read().renew_after.duration_since(now);
        Duration::try_from(left).unwrap_or_default()
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> Timestamp {
        self.read().not_after
    }

    fn replace(&self, now: Timestamp) -> Result<bool, IdentityError> {
        let next = self.source.load(now)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_another = current.key.cert != next.key.cert;
        *current = next;
        Ok(is_another)
    }

    fn read(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn load(&self, now: Timestamp) -> Result<Current, IdentityError> {
        let (chain, key, not_after, renew_after) = match self {
            Self::Issued(authority, names) => {
                let made = authority.issue_server(names, now)?;
                (made.chain, made.key, made.not_after, made.renew_after)
            }
            Self::Files { certificate, key } => {
                check_private(key)?;
                let chain = load_certificates(certificate)?;
                let private = PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|_| AuthorityFileError::NoKey(key.clone()))?;
                let not_after = chain.first().map_or(Timestamp::MAX, |leaf| end_of(leaf));
                if not_after <= now {
                    return Err(IdentityError::Ended(certificate.clone(), not_after));
                }
                let again = now.checked_add(FILES_READ_EVERY).unwrap_or(now);
                (chain, private, not_after, again)
            }
        };
        let key = CertifiedKey::from_der(chain, key, &super::provider()).map_err(IdentityError::Unusable)?;
        Ok(Current {
            key: Arc::new(key),
            not_after,
            renew_after,
        })
    }
}

/// When a certificate ends. One that cannot be read is TLS's to refuse.
fn end_of(certificate: &[u8]) -> Timestamp {
    let seconds = X509Certificate::from_der(certificate)
        .map(|(_, certificate)| certificate.validity().not_after.timestamp());
    seconds
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.read().key))
    }
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerIdentity")
    }
}
