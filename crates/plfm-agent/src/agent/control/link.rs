//! The conversation with the control plane: heartbeats, and a question for the next target that is always open.
//!
//! ```text
//!            ┌── the interval that the last answer asked for
//!            ├── soon: the target changed, something to fetch
//!  wait ─────┤── within half a minute: a boot ended while a rollout is under way  ──> heartbeat ──> answer ──┐
//!   ^        └── at once: a canary's boot ended, one failed, or more news wait          │                    │
//!   │                                                                                   └─ none: backoff     │
//!   └────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! It knows neither HTTP nor the cache: the one is [`Transport`], the other [`Side`]. Dropped at any moment, nothing is
//! lost, since news stay frozen until they are acknowledged.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use plfm_api::control::{Generation, Heartbeat, HeartbeatAnswer, HostId, HostStatus, Target};
use plfm_release::ReleaseId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::journal::Acknowledged;
use super::pace::{Backoff, interval, news, soon};
use super::reports::{Bulletin, Noted, Reports, Shelf};
use super::transport::{Standing, Transport, TransportError};

/// Shortest time between two heartbeats, whatever happens.
const URGENT_EVERY: Duration = Duration::from_secs(1);
/// How long something urgent waits for more of its kind: boots that begin together fail together.
const URGENT_TOGETHER: Duration = Duration::from_millis(200);
/// Pause after an answer to the open question that changed nothing and came at once.
const TARGET_PAUSE: Duration = Duration::from_secs(1);
/// What a heartbeat may ask for, at most.
pub const WANTS_MAX: usize = 16;

/// The host's side of the conversation.
pub trait Side: Send + Sync {
    /// How the host is; `None`, if it cannot tell now.
    fn status(&self) -> impl Future<Output = Option<HostStatus>> + Send;
    /// What it wants to fetch and may not yet.
    fn wants(&self) -> Vec<ReleaseId>;
    /// The generation that it goes by.
    fn generation(&self) -> Generation;
    /// Whether a rollout is under way, and what boots here say is waited for.
    fn is_watched(&self) -> bool;
    /// Goes by this target from now on. `false`: it is not applied.
    fn apply(&self, target: Target) -> impl Future<Output = bool> + Send;
    /// Takes the rest of an answer.
    fn told(&self, answer: Told) -> impl Future<Output = ()> + Send;
    /// Notes whether the control plane was reached.
    fn contact(&self, result: Result<(), &TransportError>);
    /// Chance.
    fn random(&self) -> u64;
}

/// What an answer says beside the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whether the host shall take no new instances.
    pub drain: bool,
    /// Of what it wanted, what it may fetch now.
    pub may_fetch: Vec<ReleaseId>,
}

/// What makes a heartbeat come earlier.
#[derive(Debug, Default)]
pub struct Wake {
    /// Within a part of the interval.
    pub soon: Notify,
    /// At once, but not more often than once a second.
    pub urgent: Notify,
    /// There are boots to tell that can wait: for half a minute while a rollout is under way, else for the interval.
    pub news: Notify,
}

impl Wake {
    /// Has what was noted told in time.
    pub fn noted(&self, noted: Noted) {
        match noted {
            Noted::Urgent => self.urgent.notify_one(),
            Noted::News => self.news.notify_one(),
            Noted::Nothing => {}
        }
    }
}

/// One conversation.
pub struct Link<'a, T, S, D> {
    pub transport: &'a T,
    pub side: &'a S,
    pub reports: &'a Reports<D>,
    pub host: &'a HostId,
    pub agent_version: &'a semver::Version,
    pub wake: &'a Arc<Wake>,
}

/// What one heartbeat led to.
enum Beat {
    /// An answer: when to come back, in milliseconds, and whether there is more to tell already.
    Answered { next_ms: u64, more: bool },
    /// None.
    Failed(TransportError),
}

impl<T: Transport, S: Side, D: Shelf> Link<'_, T, S, D> {
    /// Talks until the control plane takes this identity no more, and says how that is.
    pub async fn run(&self) -> Standing {
        tokio::select! {
            standing = self.heartbeats() => standing,
            standing = self.targets() => standing,
        }
    }

    async fn heartbeats(&self) -> Standing {
        let mut backoff = Backoff::default();
        let mut memory = Memory::default();
        loop {
            let began = Instant::now();
            match self.beat(&mut memory).await {
                Beat::Answered { next_ms, more } => {
                    backoff = Backoff::default();
                    let next_at = if more {
                        began + URGENT_EVERY
                    } else {
                        Instant::now() + interval(next_ms, self.side.random())
                    };
                    self.wait(began, next_ms, next_at).await;
                }
                Beat::Failed(error) => {
                    self.side.contact(Err(&error));
                    match error.standing() {
                        Standing::Same => sleep(backoff.pause(self.side.random())).await,
                        standing @ (Standing::Expired | Standing::Rejected) => return standing,
                    }
                }
            }
        }
    }

    /// Until `next_at`, or until something makes it earlier.
    async fn wait(&self, began: Instant, next_ms: u64, mut next_at: Instant) {
        loop {
            tokio::select! {
                biased;
                () = self.wake.urgent.notified() => {
                    let at = (Instant::now() + URGENT_TOGETHER).max(began + URGENT_EVERY);
                    if self.has_news().await {
                        next_at = next_at.min(at);
                    }
                }
                () = self.wake.news.notified() => {
                    let at = Instant::now() + news(self.side.random());
                    if self.side.is_watched() && self.has_news().await {
                        next_at = next_at.min(at.max(began + URGENT_EVERY));
                    }
                }
                () = self.wake.soon.notified() => {
                    let at = Instant::now() + soon(next_ms, self.side.random());
                    next_at = next_at.min(at.max(began + URGENT_EVERY));
                }
                () = sleep_until(next_at) => return,
            }
        }
    }

    /// Whether there are boots to tell. Those that woke it may have gone with the heartbeat that was under way.
    async fn has_news(&self) -> bool {
        let reports = self.reports.clone();
        blocking(move || Ok(reports.unreported() > 0))
            .await
            .unwrap_or(true)
    }

    async fn beat(&self, memory: &mut Memory) -> Beat {
        let status = self.side.status().await;
        let news = status.filter(|status| memory.asked || memory.told_status.as_ref() != Some(status));
        let (reports, written) = (self.reports.clone(), news);
        let bulletin = blocking(move || reports.bulletin(written.as_ref())).await;
        let bulletin = match bulletin {
            Ok(bulletin) => bulletin,
            Err(error) => return Beat::Failed(disk_failed(&error)),
        };
        let heartbeat = self.heartbeat(&bulletin);
        match self.transport.heartbeat(self.host, &heartbeat).await {
            Ok(answer) => {
                self.side.contact(Ok(()));
                self.take(memory, &bulletin, answer).await
            }
            Err(error) => {
                if error.is_stream_too_old() {
                    let reports = self.reports.clone();
                    let begun = blocking(move || reports.begin_another(&bulletin.stream)).await;
                    if let Err(error) = begun {
                        return Beat::Failed(disk_failed(&error));
                    }
                }
                Beat::Failed(error)
            }
        }
    }

    fn heartbeat(&self, bulletin: &Bulletin) -> Heartbeat {
        let Bulletin {
            stream,
            sequence,
            news,
        } = bulletin.clone();
        let (status, outcomes) = news.map(|news| (news.status, news.outcomes)).unwrap_or_default();
        let mut wants = self.side.wants();
        wants.truncate(WANTS_MAX);
        Heartbeat {
            stream,
            sequence,
            agent_version: self.agent_version.clone(),
            generation: self.side.generation(),
            status,
            outcomes,
            wants,
        }
    }

    async fn take(&self, memory: &mut Memory, bulletin: &Bulletin, answer: HeartbeatAnswer) -> Beat {
        let (reports, stream, sequence) = (self.reports.clone(), bulletin.stream.clone(), answer.sequence);
        match blocking(move || reports.acknowledge(&stream, sequence)).await {
            Ok(Acknowledged::Taken(news)) => {
                if news.status.is_some() {
                    memory.told_status = news.status;
                }
            }
            Ok(Acknowledged::Nothing | Acknowledged::Ahead) => {}
            Err(error) => return Beat::Failed(disk_failed(&error)),
        }
        memory.asked = answer.send_status;
        let told = Told {
            drain: answer.drain,
            may_fetch: answer.may_fetch,
        };
        self.side.told(told).await;
        let applied = match answer.target {
            Some(target) => self.side.apply(target).await,
            None => false,
        };
        Beat::Answered {
            next_ms: answer.next_heartbeat_ms,
            more: applied || answer.send_status || (bulletin.news.is_some() && self.reports.has_more()),
        }
    }

    /// Keeps the question for the next target open.
    async fn targets(&self) -> Standing {
        let mut backoff = Backoff::default();
        loop {
            let asked_at = Instant::now();
            match self.transport.target(self.host, self.side.generation()).await {
                Ok(Some(target)) => {
                    self.side.contact(Ok(()));
                    if self.side.apply(target).await {
                        backoff = Backoff::default();
                        self.wake.soon.notify_one();
                        // What waited for the interval may be waited for now.
                        self.wake.news.notify_one();
                    } else {
                        sleep(backoff.pause(self.side.random())).await;
                    }
                }
                Ok(None) => {
                    self.side.contact(Ok(()));
                    backoff = Backoff::default();
                    sleep_until(asked_at + TARGET_PAUSE).await;
                }
                Err(error) => match error.standing() {
                    // The heartbeats tell of it.
                    Standing::Same => sleep(backoff.pause(self.side.random())).await,
                    standing @ (Standing::Expired | Standing::Rejected) => {
                        self.side.contact(Err(&error));
                        return standing;
                    }
                },
            }
        }
    }
}

/// What the heartbeats remember of each other.
#[derive(Default)]
struct Memory {
    /// The status that the control plane is known to have.
    told_status: Option<HostStatus>,
    /// Whether it asked for one.
    asked: bool,
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(std::io::Error::other("the agent is ending")),
    }
}

/// Nothing may be sent that is not written.
fn disk_failed(error: &std::io::Error) -> TransportError {
    TransportError::HostDisk(error.to_string())
}

#[cfg(test)]
mod tests;
