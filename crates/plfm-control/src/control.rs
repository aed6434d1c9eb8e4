//! The control plane's doing, without HTTP: what handlers call.
//!
//! ```text
//! command ──> catch up with the log ──> decide (pure) ──> append if the log still ends there ──> answer
//!                    ^                                            │ moved
//!                    └────────────────────────────────────────────┘
//! heartbeat ──> batch ──> one transaction ──> answer with the target, if the host has an older one
//! ```
//!
//! Invariants: an answer is given after what it says is committed; the state here is the log up to some position, never
//! anything else.

mod beats;
mod context;
mod enrolment;
mod error;
mod execute;
mod heartbeat;
mod hosts;
mod issued;
mod kernels;
mod log;
mod numbers;
pub(crate) mod pace;
mod polls;
mod rollouts;
mod tokens;
mod webhook;

pub use enrolment::NewHost;
pub use error::ControlError;
pub(crate) use execute::new_events;
pub use execute::{Done, Kept, Request};
pub use hosts::HostQuery;
pub(crate) use kernels::state as kernel_state;
pub use log::{Health, Told};
pub use numbers::Numbers;
pub use pace::Pace;
pub use rollouts::RolloutView;
pub use tokens::{ClaimedToken, MadeToken, SECRET_KEY_FILE, SecretKey, SecretKeyError, TokenKind};
pub use webhook::{SIGNATURE, Webhook, WebhookError};

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};

use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
use crate::clock::Clock;
use crate::fleet::FleetState;
use crate::metrics::Metrics;
use crate::store::Store;

/// The control plane. Clones are the same one.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    store: Store,
    authority: Arc<Authority>,
    secret_key: SecretKey,
    pace: Pace,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// This one of several replicas, while it runs.
    replica: String,
    health: Health,
    fleet: RwLock<Arc<FleetState>>,
    told: watch::Sender<Arc<Told>>,
    position: watch::Sender<u64>,
    reading: Mutex<()>,
    deciding: Mutex<()>,
    hosts_coming: AtomicU64,
    rollbacks: log::Rollbacks,
    numbers: Mutex<Option<Arc<Numbers>>>,
    polls: Semaphore,
    beats: beats::Inlet,
    ending: CancellationToken,
    closing: CancellationToken,
}

/// What the control plane is made of.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Who issues hosts' certificates.
    pub authority: Arc<Authority>,
    /// What tokens' secrets are derived with.
    pub secret_key: SecretKey,
    /// How often hosts come.
    pub pace: Pace,
    /// Long polls at once.
    pub polls_max: usize,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Clock,
    /// Who is told of rollouts.
    pub webhook: Option<Webhook>,
}

/// What runs beside the requests.
pub struct Background {
    follower: JoinHandle<()>,
    batcher: JoinHandle<()>,
    driver: JoinHandle<()>,
    teller: Option<JoinHandle<()>>,
}

impl Control {
    /// Reads the log to its end, and follows it from then on.
    pub async fn start(parts: Parts) -> Result<(Self, Background), ControlError> {
        let (beats, waiting) = beats::channel();
        let fleet = FleetState::default();
        let control = Self(Arc::new(Inner {
            told: watch::Sender::new(Told::of(&fleet)),
            position: watch::Sender::new(0),
            fleet: RwLock::new(Arc::new(fleet)),
            store: parts.store,
            authority: parts.authority,
            secret_key: parts.secret_key,
            pace: parts.pace,
            metrics: parts.metrics,
            clock: parts.clock,
            replica: ulid::Ulid::generate().to_string(),
            health: Health::default(),
            reading: Mutex::default(),
            deciding: Mutex::default(),
            hosts_coming: AtomicU64::new(0),
            rollbacks: log::Rollbacks::default(),
            numbers: Mutex::default(),
            polls: Semaphore::new(parts.polls_max),
            beats,
            ending: CancellationToken::new(),
            closing: CancellationToken::new(),
        }));
        control.catch_up().await?;
        if parts.webhook.is_some() {
            webhook::Teller::begin(&control).await?;
        }
        let tell = |webhook| tokio::spawn(webhook::Teller::new(control.clone(), webhook).run());
        let background = Background {
            follower: tokio::spawn(control.clone().follow_log()),
            batcher: tokio::spawn(control.clone().take_beats(waiting)),
            driver: tokio::spawn(rollouts::Driver::new(control.clone()).run()),
            teller: parts.webhook.map(tell),
        };
        Ok((control, background))
    }

    /// Whether the control plane can answer.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// What tokens' secrets are derived with.
    pub fn secret_key(&self) -> &SecretKey {
        &self.0.secret_key
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What time it is.
    pub fn now(&self) -> jiff::Timestamp {
        self.0.clock.now()
    }

    /// The clock that it goes by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Lets everything that waits for news go, and whatever runs beside the requests.
    pub fn end_waits(&self) {
        self.0.ending.cancel();
    }

    /// Whether long polls end.
    pub fn ending(&self) -> &CancellationToken {
        &self.0.ending
    }
}

impl Background {
    /// Waits until what was received is kept. No request may be under way any more.
    pub async fn end(self, control: &Control) {
        control.0.ending.cancel();
        control.0.closing.cancel();
        let _ = self.follower.await;
        let _ = self.batcher.await;
        let _ = self.driver.await;
        if let Some(teller) = self.teller {
            let _ = teller.await;
        }
        control.leave_desk().await;
    }
}
