use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::authority::{Authority, AuthorityFileError, IssueError};
use crate::authority::{check_private, load_certificates, read};

/// The control plane's certificate of now.
pub struct ServerIdentity {
    source: Source,
    current: RwLock<Current>,
}

enum Source {
    /// Made by our own authority, for these names.
    Issued(Arc<Authority>, Vec<String>),
    /// The operator's files, read again now and then.
    Files { certificate: PathBuf, key: PathBuf },
}

struct Current {
    key: Arc<CertifiedKey>,
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
    /// No pair that TLS can use.
    #[error("the control plane's certificate and key cannot be used")]
    Unusable(#[source] rustls::Error),
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

    /// Makes or reads another certificate if it is time to. New connections get it.
    pub fn renew(&self, now: Timestamp) -> Result<bool, IdentityError> {
        if now
            < self
                .current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .renew_after
        {
            return Ok(false);
        }
        let current = self.source.load(now)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(true)
    }
}

impl Source {
    fn load(&self, now: Timestamp) -> Result<Current, IdentityError> {
        let (chain, key, renew_after) = match self {
            Self::Issued(authority, names) => {
                let made = authority.issue_server(names, now)?;
                (made.chain, made.key, made.renew_after)
            }
            Self::Files { certificate, key } => {
                check_private(key)?;
                let chain = load_certificates(certificate)?;
                let private = PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|_| AuthorityFileError::NoKey(key.clone()))?;
                // Whoever puts another one there does not tell us: read again each time that is asked.
                (chain, private, now)
            }
        };
        let key = CertifiedKey::from_der(chain, key, &super::provider()).map_err(IdentityError::Unusable)?;
        Ok(Current {
            key: Arc::new(key),
            renew_after,
        })
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current.key))
    }
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerIdentity")
    }
}
