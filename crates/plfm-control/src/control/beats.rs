//! Heartbeats: collected for a moment, and kept in one transaction.
//!
//! Invariant: what a host is told to be kept is committed.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use plfm_api::control::HostId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::warn;

use super::{Control, ControlError};
use crate::store::{Beat, StoreError, Taken};

/// How long heartbeats are collected: what a host waits for at most, on top of the commit.
const COLLECT_FOR: Duration = Duration::from_millis(20);
/// Heartbeats of one transaction.
pub const BATCH_MAX: usize = 512;
/// Heartbeats that wait, at most. More are told to come back: the database does not keep up.
const WAITING_MAX: usize = 8_192;

/// A heartbeat, and who waits for what becomes of it.
pub(super) struct Waiting {
    beat: Beat,
    answer: oneshot::Sender<Result<Taken, ControlError>>,
}

/// The way in.
pub(super) type Inlet = mpsc::Sender<Waiting>;

pub(super) fn channel() -> (Inlet, mpsc::Receiver<Waiting>) {
    mpsc::channel(WAITING_MAX)
}

impl Control {
    /// Keeps a heartbeat. Returns when it is committed.
    pub(super) async fn take_beat(&self, beat: Beat) -> Result<Taken, ControlError> {
        let (answer, taken) = oneshot::channel();
        self.0
            .beats
            .try_send(Waiting { beat, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => ControlError::Busy,
                mpsc::error::TrySendError::Closed(_) => ControlError::Ending,
            })?;
        taken.await.map_err(|_| ControlError::Ending)?
    }

    /// Takes heartbeats until the control plane ends, and whatever waits then.
    pub(super) async fn take_beats(self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut left_over = VecDeque::new();
        loop {
            if self.0.closing.is_cancelled() {
                waiting.close();
            }
            let mut batch = tokio::select! {
                batch = first(&mut waiting, &mut left_over) => batch,
                () = self.0.closing.cancelled(), if !waiting.is_closed() => continue,
            };
            if batch.is_empty() {
                return;
            }
            fill(&mut batch, &mut waiting, &mut left_over).await;
            self.commit(batch).await;
        }
    }

    async fn commit(&self, batch: Vec<Waiting>) {
        let (beats, answers): (Vec<Beat>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.beat, waiting.answer))
            .unzip();
        let fetches_max = self.fleet().policy().fetches_max;
        let began = Instant::now();
        let taken = self.0.store.take_beats(&beats, fetches_max, self.now()).await;
        self.0.metrics.batch(beats.len(), began.elapsed());
        match taken {
            Ok(taken) => {
                for (answer, taken) in answers.into_iter().zip(taken) {
                    // Whoever went away comes back and asks again.
                    let _ = answer.send(Ok(taken));
                }
            }
            Err(error) => {
                warn!(
                    code = error.code(),
                    hosts = beats.len(),
                    "heartbeats were not kept: {}",
                    crate::server::chain(&error)
                );
                for answer in answers {
                    let _ = answer.send(Err(failed(&error)));
                }
            }
        }
    }
}

/// The same error for each of those who waited.
fn failed(error: &StoreError) -> ControlError {
    if error.is_retryable() {
        ControlError::Busy
    } else {
        ControlError::NotKept(error.code())
    }
}

/// The first of a batch: whoever was left over, else whoever comes. Empty when no more will come. Nothing is lost when the
/// wait is given up.
async fn first(waiting: &mut mpsc::Receiver<Waiting>, left_over: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut batch: Vec<Waiting> = Vec::new();
    let mut hosts: HashSet<HostId> = HashSet::new();
    for one in std::mem::take(left_over) {
        if batch.len() < BATCH_MAX && hosts.insert(one.beat.host.clone()) {
            batch.push(one);
        } else {
            left_over.push_back(one);
        }
    }
    if batch.is_empty() {
        batch.extend(waiting.recv().await);
    }
    batch
}

/// Adds to a batch what comes within [`COLLECT_FOR`].
async fn fill(
    batch: &mut Vec<Waiting>,
    waiting: &mut mpsc::Receiver<Waiting>,
    left_over: &mut VecDeque<Waiting>,
) {
    let until = Instant::now() + COLLECT_FOR;
    let mut hosts: HashSet<HostId> = batch.iter().map(|one| one.beat.host.clone()).collect();
    while batch.len() < BATCH_MAX && left_over.len() < BATCH_MAX {
        match tokio::time::timeout_at(until, waiting.recv()).await {
            Ok(Some(one)) if hosts.insert(one.beat.host.clone()) => batch.push(one),
            // A host that comes twice at once waits for the next batch.
            Ok(Some(one)) => left_over.push_back(one),
            Ok(None) | Err(_) => return,
        }
    }
}
