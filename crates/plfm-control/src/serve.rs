//! All of it, running in this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::authority::{Authority, AuthorityFileError};
use crate::control::{
    Background, Control, ControlError, Parts, SecretKey, SecretKeyError, Webhook, WebhookError,
};
use crate::metrics::Metrics;
use crate::registry::{FollowError, RegistryFollower};
use crate::server::{App, Server, chain, observe_router};
use crate::settings::{Settings, TlsSource};
use crate::store::{Store, StoreError};
use crate::tls::{HostCertificateVerifier, IdentityError, ServerIdentity, server_config};

/// How long the control plane does not look whether its own certificate has to be another one, at most: a clock that is put
/// forward is noticed. And at least: what cannot be renewed is not tried all the time.
const IDENTITY_PAUSE_MAX: Duration = Duration::from_secs(600);
const IDENTITY_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The same after it could not be.
const IDENTITY_RETRY: Duration = Duration::from_secs(60);
/// How often what is not needed any more is removed.
const CLEANING_INTERVAL: Duration = Duration::from_secs(3_600);
/// How long answers are kept for requests that are sent again: longer than any script retries.
const ANSWERS_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long boots are kept by minute and host. Totals are kept for ever.
const OUTCOMES_KEPT: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database.
    #[error("cannot open the database")]
    Store(#[from] StoreError),
    /// The authority.
    #[error("cannot open the certificate authority (`plfm-control init` makes one)")]
    Authority(#[source] AuthorityFileError),
    /// The key for tokens.
    #[error("cannot open the key that tokens are derived with (`plfm-control init` makes one)")]
    SecretKey(#[source] SecretKeyError),
    /// The log.
    #[error("cannot read the log")]
    Control(#[from] ControlError),
    /// Nobody initialized it.
    #[error("the log is empty: begin with `plfm-control init`")]
    Empty,
    /// The own certificate.
    #[error("cannot use the control plane's own certificate")]
    Identity(#[from] IdentityError),
    /// TLS.
    #[error("cannot set TLS up")]
    Tls(#[from] rustls::Error),
    /// The registry.
    #[error("cannot follow the registry")]
    Registry(#[from] FollowError),
    /// The webhook.
    #[error("cannot use the webhook")]
    Webhook(#[from] WebhookError),
    /// The address.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// A control plane that runs.
pub struct Running {
    /// Where hosts and operators connect.
    pub address: SocketAddr,
    /// Where whatever watches the server connects.
    pub metrics_address: Option<SocketAddr>,
    /// What clients are to trust.
    pub ca_certificate: PathBuf,
    /// The control plane itself.
    pub control: Control,
    /// Tells it to read the files of its own certificate again, now.
    pub reload: Arc<Notify>,
    served: JoinHandle<()>,
    beside: Vec<JoinHandle<()>>,
    background: Background,
}

/// Runs a control plane until `shutdown`. When it returns, connections are accepted.
pub async fn serve(settings: Settings, shutdown: CancellationToken) -> Result<Running, ServeError> {
    let now = Timestamp::now();
    let authority = Authority::open(&settings.ca_cert, &settings.ca_key).map_err(ServeError::Authority)?;
    let authority = Arc::new(authority);
    let identity = Arc::new(match settings.tls.clone() {
        TlsSource::Issued(names) => ServerIdentity::issued(Arc::clone(&authority), names, now)?,
        TlsSource::Files { certificate, key } => ServerIdentity::files(certificate, key, now)?,
    });
    let tls = server_config(
        Arc::clone(&identity) as _,
        HostCertificateVerifier::new(authority.certificate())?,
    )?;
    let metrics = Arc::new(Metrics::default());
    let parts = Parts {
        store: Store::open(&settings.database).await?,
        authority,
        secret_key: SecretKey::open(&settings.secret_key).map_err(ServeError::SecretKey)?,
        pace: settings.pace,
        polls_max: settings.polls_max,
        metrics: Arc::clone(&metrics),
        clock: settings.clock.clone(),
        webhook: settings.webhook.as_ref().map(Webhook::open).transpose()?,
    };
    let (control, background) = Control::start(parts).await?;
    if control.fleet().position() == 0 {
        background.end(&control).await;
        return Err(ServeError::Empty);
    }
    let follower = settings.registry.map(RegistryFollower::open).transpose()?;
    let listen = |error| ServeError::Listen(settings.listen, error);
    let app = App::new(control.clone());
    let (server, listening) = Server::bind(settings.listen, tls, app, settings.connections_max)
        .await
        .map_err(listen)?;
    let (mut beside, metrics_address) = observe(settings.metrics_listen, &control, &shutdown).await?;
    let reload = Arc::new(Notify::new());
    beside.push(tokio::spawn(keep_identity(
        identity,
        Arc::clone(&reload),
        shutdown.clone(),
    )));
    beside.push(tokio::spawn(clean(control.clone(), shutdown.clone())));
    if let Some(follower) = follower {
        beside.push(tokio::spawn(follower.follow(control.clone(), shutdown.clone())));
    }
    info!(address = %listening.address, position = control.fleet().position(), "ready");
    Ok(Running {
        address: listening.address,
        metrics_address,
        ca_certificate: settings.ca_cert,
        control: control.clone(),
        reload,
        served: tokio::spawn(server.serve(metrics, shutdown)),
        beside,
        background,
    })
}

impl Running {
    /// Waits for the end: after `shutdown`, when the requests that were under way are answered and kept.
    pub async fn ended(self) {
        let _ = self.served.await;
        for task in self.beside {
            let _ = task.await;
        }
        self.background.end(&self.control).await;
        self.control.store().close().await;
        info!("ended");
    }
}

async fn observe(
    address: Option<SocketAddr>,
    control: &Control,
    shutdown: &CancellationToken,
) -> Result<(Vec<JoinHandle<()>>, Option<SocketAddr>), ServeError> {
    let Some(address) = address else {
        return Ok((Vec::new(), None));
    };
    let fault = |error| ServeError::Listen(address, error);
    let listener = tokio::net::TcpListener::bind(address).await.map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    let (router, ended) = (observe_router(control.clone()), shutdown.clone());
    let task = tokio::spawn(async move {
        tokio::select! {
            served = axum::serve(listener, router) => {
                if let Err(error) = served {
                    warn!("nothing can be watched any more: {error}");
                }
            }
            () = ended.cancelled() => {}
        }
    });
    Ok((vec![task], Some(bound)))
}

async fn keep_identity(identity: Arc<ServerIdentity>, reload: Arc<Notify>, shutdown: CancellationToken) {
    let mut pause_min = IDENTITY_PAUSE_MIN;
    loop {
        let pause = identity
            .rests(Timestamp::now())
            .clamp(pause_min, IDENTITY_PAUSE_MAX);
        let is_asked = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = reload.notified() => true,
            () = shutdown.cancelled() => return,
        };
        let looking = Arc::clone(&identity);
        let looked = tokio::task::spawn_blocking(move || {
            let now = Timestamp::now();
            if is_asked {
                looking.reload(now)
            } else {
                looking.renew(now)
            }
        });
        let looked = looked.await;
        pause_min = match looked {
            Ok(Err(_)) => IDENTITY_RETRY,
            Ok(Ok(_)) | Err(_) => IDENTITY_PAUSE_MIN,
        };
        match looked {
            Ok(Ok(true)) => {
                info!(not_after = %identity.not_after(), "new connections get another certificate of the control plane");
            }
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => warn!(
                "the control plane's own certificate stays as it was: {}",
                chain(&error)
            ),
        }
    }
}

async fn clean(control: Control, shutdown: CancellationToken) {
    while !ended_within(CLEANING_INTERVAL, &shutdown).await {
        let before = |kept| {
            Timestamp::now()
                .checked_sub(kept)
                .unwrap_or(Timestamp::UNIX_EPOCH)
        };
        let answers = control.store().forget_answers(before(ANSWERS_KEPT)).await;
        let outcomes = control.store().prune_outcomes(before(OUTCOMES_KEPT)).await;
        let reports = control.prune_reports().await;
        for error in [answers.err(), outcomes.err(), reports.err()]
            .into_iter()
            .flatten()
        {
            warn!(
                code = error.code(),
                "what is old stays for now: {}",
                chain(&error)
            );
        }
    }
}

/// Whether the end came before the time was over.
pub(crate) async fn ended_within(time: Duration, shutdown: &CancellationToken) -> bool {
    tokio::time::timeout(time, shutdown.cancelled()).await.is_ok()
}
