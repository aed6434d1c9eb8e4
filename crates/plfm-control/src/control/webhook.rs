//! Tells a webhook what happened to rollouts, from the log.
//!
//! Invariant: every event is told at least once, in order, or was given up and is said to be in this log and in the metrics.
//! What is told follows from the log alone, so a notice that comes twice is the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::hmac;
use plfm_api::control::RolloutNotice;
use reqwest::{Client, Url, redirect};
use tracing::{error, info, warn};

use super::{Control, ControlError};
use crate::fleet::{FleetState, RolloutRemark};
use crate::server::chain;
use crate::settings::WebhookSettings;
use crate::store::Desk;

/// Where the signature is.
pub const SIGNATURE: &str = "plfm-signature";
/// From the connection to the answer's head: whoever takes notices puts them away first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one notice: an hour and a half with the pauses between them.
const TRIES_MAX: u32 = 24;
/// Between the first two tries; twice as long each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Between two tries, at most.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long another replica that tells is waited for.
const THEIRS_PAUSE: Duration = Duration::from_secs(5);
/// The desk is held while one notice is told.
const HELD_FOR: Duration = Duration::from_secs(15);
/// The secret's length in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=4_096;

/// The webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The secret's file.
    #[error(transparent)]
    File(#[from] crate::authority::AuthorityFileError),
    /// The secret.
    #[error("{} has no secret of {} to {} bytes: put one there, such as `openssl rand -hex 32` makes", .0.display(), SECRET_BYTES.start(), SECRET_BYTES.end())]
    Secret(PathBuf),
    /// The client.
    #[error("no HTTP client can be made")]
    Client(#[source] reqwest::Error),
}

/// A webhook. Has no `Debug`: its address and key are secrets.
pub struct Webhook {
    url: Url,
    key: hmac::Key,
    http: Client,
}

/// Why a notice was not taken.
enum Untold {
    Status(u16),
    Failed(reqwest::Error),
}

impl std::fmt::Display for Untold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::Failed(error) => f.write_str(&chain(error)),
        }
    }
}

impl Webhook {
    /// Reads the secret.
    ///
    /// # Errors
    /// [`WebhookError`]: the file cannot be read, others can read it too, or there is no secret in it.
    pub fn open(settings: &WebhookSettings) -> Result<Self, WebhookError> {
        let secret = read_secret(&settings.secret_file)?;
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .timeout(ANSWER_TIMEOUT)
            .user_agent(concat!("plfm-control/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(WebhookError::Client)?;
        Ok(Self {
            url: settings.url.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            http,
        })
    }

    async fn tell(&self, body: Vec<u8>) -> Result<(), Untold> {
        let signature = hex::encode(hmac::sign(&self.key, &body));
        let request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header(SIGNATURE, format!("sha256={signature}"))
            .body(body);
        // The address may have a token in it.
        let answered = request
            .send()
            .await
            .map_err(|error| Untold::Failed(error.without_url()))?;
        if answered.status().is_success() {
            Ok(())
        } else {
            Err(Untold::Status(answered.status().as_u16()))
        }
    }
}

fn read_secret(path: &Path) -> Result<Vec<u8>, WebhookError> {
    crate::authority::check_private(path)?;
    let text = crate::authority::read(path)?;
    let secret = text.trim_ascii_end();
    if SECRET_BYTES.contains(&secret.len()) {
        Ok(secret.to_vec())
    } else {
        Err(WebhookError::Secret(path.to_owned()))
    }
}

/// The first event after a position that is to be told.
fn next_after(fleet: &FleetState, position: u64) -> Option<&RolloutRemark> {
    let remarks = fleet.rollouts().iter().flat_map(|rollout| &rollout.history);
    remarks
        .filter(|remark| remark.position > position)
        .min_by_key(|remark| remark.position)
}

/// Tells until the control plane ends.
pub(super) struct Teller {
    control: Control,
    webhook: Webhook,
    /// The notice that is being told, and how often it was tried.
    tried: (u64, u32),
}

impl Teller {
    pub(super) fn new(control: Control, webhook: Webhook) -> Self {
        Self {
            control,
            webhook,
            tried: (0, 0),
        }
    }

    /// What happened before there was a webhook is not told.
    pub(super) async fn begin(control: &Control) -> Result<(), ControlError> {
        if control.store().webhook_cursor().await?.is_none() {
            control
                .store()
                .set_webhook_cursor(control.fleet().position())
                .await?;
        }
        Ok(())
    }

    pub(super) async fn run(mut self) {
        let mut position = self.control.0.position.subscribe();
        loop {
            let seen = *position.borrow_and_update();
            let ending = self.control.ending().clone();
            let told = tokio::select! {
                told = self.tell_next() => told,
                // What was not heard to be taken is told again: at least once.
                () = ending.cancelled() => return,
            };
            let pause = match told {
                Ok(Some(pause)) => pause,
                // Nothing is left: the log's next event is waited for.
                Ok(None) => THEIRS_PAUSE,
                Err(error) => {
                    warn!("the webhook is told nothing for now: {}", chain(&error));
                    THEIRS_PAUSE
                }
            };
            let is_new = async {
                let _ = position.wait_for(|position| *position != seen).await;
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = is_new, if self.tried.1 == 0 => {}
                () = ending.cancelled() => return,
            }
        }
    }

    /// Tells the next notice. How long to wait before the one after it; nothing if there is none.
    async fn tell_next(&mut self) -> Result<Option<Duration>, ControlError> {
        let control = &self.control;
        let fleet = control.fleet();
        let cursor = control.store().webhook_cursor().await?.unwrap_or(0);
        let Some(remark) = next_after(&fleet, cursor) else {
            return Ok(None);
        };
        let (holder, now) = (&control.0.replica, control.now());
        if control.store().take_desk(holder, HELD_FOR, now).await? == Desk::Theirs {
            return Ok(Some(THEIRS_PAUSE));
        }
        let position = remark.position;
        let notice = RolloutNotice {
            position,
            alert: remark.alert.map(|alert| alert.as_str().to_owned()),
            moment: remark.moment.clone(),
            rollout: remark.then.clone(),
        };
        drop(fleet);
        let body = serde_json::to_vec(&notice).map_err(ControlError::KeptAnswer)?;
        let tries = if self.tried.0 == position {
            self.tried.1 + 1
        } else {
            1
        };
        let told = self.webhook.tell(body).await;
        match told {
            Ok(()) => {
                control.metrics().webhook_delivery("delivered");
                info!(position, tries, "the webhook was told");
            }
            Err(why) if tries < TRIES_MAX => {
                control.metrics().webhook_delivery("failed");
                warn!(position, tries, "the webhook was not told, and will be: {why}");
                self.tried = (position, tries);
                let pause = PAUSE_MIN.saturating_mul(1 << tries.min(16).saturating_sub(1));
                return Ok(Some(super::pace::spread(
                    pause.min(PAUSE_MAX),
                    super::pace::random(),
                )));
            }
            Err(why) => {
                control.metrics().webhook_delivery("given_up");
                error!(
                    position,
                    tries, "the webhook is not told of this event any more: {why}"
                );
            }
        }
        self.tried = (position, 0);
        control.store().set_webhook_cursor(position).await?;
        Ok(Some(Duration::ZERO))
    }
}
