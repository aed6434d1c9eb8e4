//! Getting an identity, and keeping one: enrolment, renewal, and the conversation in between.
//!
//! ```text
//! no identity ──enrol (token)──> identity ──link──┬── renewal is due ──> another certificate, and on
//!      ^                                          ├── certificate_expired ──> enrol again, with a new token
//!      └──────────────────────────────────────────┴── rejected ──> wait; an operator's doing
//! ```
//!
//! Each attempt asks with the same key until there is an answer: the control plane repeats an answer that was lost.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plfm_api::control::{EnrollHost, EnrolledHost, RenewCertificate};
use plfm_release::{Architecture, Sha256Digest};
use rcgen::KeyPair;
use tokio::time::sleep;
use tracing::info;

use super::https::HttpsControl;
use super::identity::{HostIdentity, IdentityError, signing_request};
use super::link::{Link, Side};
use super::pace::Backoff;
use super::transport::{Standing, TransportError};
use super::{Control, chain};
use crate::agent::{agent_version, random, read_bounded};

/// Largest file with a token, in bytes.
const TOKEN_BYTES_MAX: u64 = 4 * 1024;
/// How often the certificate's age is looked at: by the clock on the wall, which may jump.
const AGE_EVERY: Duration = Duration::from_secs(60);
/// First and longest pause where only an operator can help.
const OPERATOR_PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// Why the host has no identity to go on with.
#[derive(Debug, thiserror::Error)]
enum EnrollError {
    #[error("this host has not enrolled yet, and has no token to do it with")]
    NoTokenFile,
    #[error("cannot read the enrollment token in {}", path.display())]
    Token {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the control plane does not take the enrollment token in {}", path.display())]
    TokenRefused { path: std::path::PathBuf },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Control(#[from] TransportError),
    #[error(transparent)]
    Client(#[from] super::https::ClientError),
    #[error("this host's certificate ended at {not_after}, and it cannot enrol again yet")]
    Expired {
        not_after: Timestamp,
        #[source]
        source: Box<EnrollError>,
    },
    #[error("the agent is ending")]
    Ending,
}

impl EnrollError {
    fn code(&self) -> &str {
        match self {
            Self::NoTokenFile => "not_enrolled",
            Self::Token { .. } => "enrollment_token_unreadable",
            Self::TokenRefused { .. } => "enrollment_token_invalid",
            Self::Identity(_) => "identity_unusable",
            Self::Control(error) => error.code(),
            Self::Client(_) => "control_client_failed",
            Self::Expired { .. } => "certificate_expired",
            Self::Ending => "ending",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Expired { source, .. } => source.hint(),
            Self::NoTokenFile | Self::Token { .. } | Self::TokenRefused { .. } => Some(NEW_TOKEN.to_owned()),
            Self::Control(error) => match error.standing() {
                Standing::Same => error.hint().map(str::to_owned),
                Standing::Expired | Standing::Rejected => Some(NEW_TOKEN.to_owned()),
            },
            Self::Identity(_) | Self::Client(_) | Self::Ending => None,
        }
    }
}

const NEW_TOKEN: &str = "have an operator make an enrollment token, and put it into the file that --enroll-token-file names; \
                         the agent reads it again by itself";

/// Why a conversation ended.
enum End {
    /// The control plane takes this identity no more.
    Refused,
    /// There is another certificate.
    Renewed,
}

impl Control {
    /// Enrols, talks, renews, until it is dropped.
    pub(super) async fn keep_linked(self: &Arc<Self>, side: &impl Side) {
        let (first, longest) = OPERATOR_PAUSE;
        let mut backoff = Backoff::new(first, longest);
        loop {
            match self.one_conversation(side).await {
                Ok(End::Renewed) => backoff = Backoff::new(first, longest),
                // The way on is a new enrolment, at once if there is a token.
                Ok(End::Refused) => sleep(backoff.pause(random())).await,
                Err(error) => {
                    self.note_problem(error.code(), chain(&error), error.hint());
                    sleep(backoff.pause(random())).await;
                }
            }
        }
    }

    async fn one_conversation(self: &Arc<Self>, side: &impl Side) -> Result<End, EnrollError> {
        let identity = match self.load_identity().await? {
            Some(identity) if self.is_expired(&identity) => {
                let enrolled = self.enroll().await;
                enrolled.map_err(|source| EnrollError::Expired {
                    not_after: identity.not_after,
                    source: Box::new(source),
                })?
            }
            Some(identity) => identity,
            None => self.enroll().await?,
        };
        self.know(&identity);
        let transport = HttpsControl::new(&self.told.url, &self.told.ca, Some(&identity.pem))?;
        let version = agent_version();
        let link = Link {
            transport: &transport,
            side,
            reports: &self.reports,
            host: &identity.host,
            agent_version: &version,
            wake: &self.wake,
        };
        tokio::select! {
            standing = link.run() => {
                if standing == Standing::Expired {
                    self.mark_expired(&identity);
                }
                Ok(End::Refused)
            }
            () = self.renew_in_time(&transport, &identity) => Ok(End::Renewed),
        }
    }

    async fn load_identity(self: &Arc<Self>) -> Result<Option<HostIdentity>, EnrollError> {
        self.on_disk(|control| Ok(control.dir.load()?)).await
    }

    /// Work on the files of the identity, off the runtime's threads.
    async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, EnrollError> + Send + 'static,
    ) -> Result<T, EnrollError> {
        let control = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&control)).await;
        done.unwrap_or(Err(EnrollError::Ending))
    }

    async fn enroll(self: &Arc<Self>) -> Result<HostIdentity, EnrollError> {
        let (key, csr, token) = self
            .on_disk(|control| {
                let token = read_token(control)?;
                let key = control.dir.next_key()?;
                let csr = signing_request(&key, &control.told.host_name)?;
                Ok((key, csr, token))
            })
            .await?;
        let request = EnrollHost {
            token,
            name: self.told.host_name.clone(),
            csr,
            agent_version: agent_version(),
            arch: Architecture::X86_64,
        };
        let transport = HttpsControl::new(&self.told.url, &self.told.ca, None)?;
        let issued = transport
            .enroll(&request)
            .await
            .inspect_err(|error| self.note_token(&request.token, error))?;
        let identity = self.accept(key, issued).await?;
        info!(host = %identity.host, "enrolled");
        Ok(identity)
    }

    async fn accept(
        self: &Arc<Self>,
        key: KeyPair,
        issued: EnrolledHost,
    ) -> Result<HostIdentity, EnrollError> {
        self.on_disk(move |control| Ok(control.dir.accept(&key, control.told.url.as_str(), &issued)?))
            .await
    }

    /// Returns when there is another certificate.
    async fn renew_in_time(self: &Arc<Self>, transport: &HttpsControl, identity: &HostIdentity) {
        let mut backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(3_600));
        loop {
            if Timestamp::now() < identity.renew_after {
                sleep(AGE_EVERY).await;
                continue;
            }
            match self.renew(transport, identity).await {
                Ok(renewed) => {
                    info!(not_after = %renewed.not_after, "there is another certificate");
                    return;
                }
                Err(error) => {
                    tracing::warn!(
                        code = error.code(),
                        "the certificate is not renewed yet: {}",
                        chain(&error)
                    );
                    sleep(backoff.pause(random())).await;
                }
            }
        }
    }

    async fn renew(
        self: &Arc<Self>,
        transport: &HttpsControl,
        identity: &HostIdentity,
    ) -> Result<HostIdentity, EnrollError> {
        let (key, csr) = self
            .on_disk(|control| {
                let key = control.dir.next_key()?;
                let csr = signing_request(&key, &control.told.host_name)?;
                Ok((key, csr))
            })
            .await?;
        let issued = transport.renew(&identity.host, &RenewCertificate { csr }).await?;
        let renewed = self.accept(key, issued).await?;
        self.know(&renewed);
        Ok(renewed)
    }
}

impl Control {
    fn know(&self, identity: &HostIdentity) {
        let mut state = self.state();
        state.host = Some(identity.host.clone());
        state.not_after = Some(identity.not_after);
    }

    /// Notes that the control plane, whose clock counts, takes this certificate for expired.
    fn mark_expired(&self, identity: &HostIdentity) {
        self.state().expired = Some(identity.not_after);
    }

    fn note_token(&self, token: &str, error: &TransportError) {
        match error.standing() {
            Standing::Same => {}
            Standing::Expired | Standing::Rejected => {
                self.state().refused_token = Some(Sha256Digest::of(token.as_bytes()));
            }
        }
    }

    fn is_expired(&self, identity: &HostIdentity) -> bool {
        self.state().expired == Some(identity.not_after)
    }
}

fn read_token(control: &Control) -> Result<String, EnrollError> {
    let path = control.told.token_file.as_ref().ok_or(EnrollError::NoTokenFile)?;
    let unreadable = |source| EnrollError::Token {
        path: path.clone(),
        source,
    };
    let bytes = read_bounded(path, TOKEN_BYTES_MAX).map_err(unreadable)?;
    // What is wrong with the bytes is not shown: they are a secret.
    let text = String::from_utf8(bytes).map_err(|_| unreadable(std::io::ErrorKind::InvalidData.into()))?;
    let token = text.trim();
    if control.state().refused_token == Some(Sha256Digest::of(token.as_bytes())) {
        return Err(EnrollError::TokenRefused { path: path.clone() });
    }
    Ok(token.to_owned())
}
