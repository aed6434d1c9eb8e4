//! Following the log.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use plfm_api::control::{Event, Generation, Target};
use tracing::{error, info, warn};

use super::{Control, ControlError};
use crate::fleet::{ApplyError, FleetState};

/// How often the log is looked at for what others appended: what another replica decided is seen within this time.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Events that are read at once.
const PAGE: usize = 1_000;
/// How long ago the log may have been looked at for the control plane to count as up to date.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);

/// What hosts are told at the moment.
#[derive(Debug)]
pub struct Told {
    /// The generation.
    pub generation: Generation,
    /// The target.
    pub target: Target,
}

impl Told {
    pub(super) fn of(fleet: &FleetState) -> Arc<Self> {
        Arc::new(Self {
            generation: fleet.generation(),
            target: fleet.target(),
        })
    }
}

impl Control {
    /// The fleet as the log has it, as far as it was read.
    pub fn fleet(&self) -> Arc<FleetState> {
        Arc::clone(&self.0.fleet.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often the fleet was taken back, by who did it.
    pub fn rollbacks(&self) -> Vec<(&'static str, u64)> {
        self.0.rollbacks.by_trigger()
    }

    /// Reads the log to its end.
    pub async fn catch_up(&self) -> Result<(), ControlError> {
        let _one_at_a_time = self.0.reading.lock().await;
        let mut after = self.fleet().position();
        let head = self.0.store.head().await?;
        while after < head {
            let events = self.0.store.events(after, PAGE, None).await?;
            let Some(last) = events.last() else { break };
            after = last.position;
            self.take_in(&events)?;
            // A long log does not keep others from their turn.
            tokio::task::yield_now().await;
        }
        self.0.health.followed(Timestamp::now());
        Ok(())
    }

    /// Takes events into the state. Those that are in it already are passed over.
    pub(super) fn take_in(&self, events: &[Event]) -> Result<(), ApplyError> {
        let mut held = self.0.fleet.write().unwrap_or_else(PoisonError::into_inner);
        if events.last().is_none_or(|last| last.position <= held.position()) {
            return Ok(());
        }
        let fleet = Arc::make_mut(&mut held);
        let mut taken = Ok(());
        for event in events {
            if event.position > fleet.position() {
                taken = fleet.apply(event);
                if taken.is_err() {
                    break;
                }
                self.0.rollbacks.count(event);
            }
        }
        let (told, position) = (Told::of(fleet), fleet.position());
        let coming = u64::try_from(fleet.hosts().len()).unwrap_or(u64::MAX);
        drop(held);
        self.0
            .hosts_coming
            .store(coming, std::sync::atomic::Ordering::Relaxed);
        self.0.told.send_replace(told);
        self.0.position.send_replace(position);
        if let Err(error) = &taken {
            self.0.health.break_down(error);
        }
        taken
    }

    /// Follows the log until the control plane ends.
    pub async fn follow_log(self) {
        let mut was_well = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = self.0.ending.cancelled() => return,
            }
            match self.catch_up().await {
                Ok(()) if was_well => {}
                Ok(()) => {
                    info!("the log is followed again");
                    was_well = true;
                }
                Err(error) => {
                    if was_well {
                        warn!("the log cannot be followed: {}", crate::server::chain(&error));
                    }
                    was_well = false;
                }
            }
        }
    }
}

/// Whether the control plane can answer.
#[derive(Debug, Default)]
pub struct Health {
    followed: std::sync::Mutex<Option<Timestamp>>,
    broken: std::sync::atomic::AtomicBool,
}

impl Health {
    fn followed(&self, at: Timestamp) {
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn break_down(&self, error: &ApplyError) {
        if !self.broken.swap(true, std::sync::atomic::Ordering::Relaxed) {
            error!("no change is possible any more: {}", crate::server::chain(error));
        }
    }

    /// What is wrong, if anything is.
    pub fn problem(&self, now: Timestamp) -> Option<&'static str> {
        if self.broken.load(std::sync::atomic::Ordering::Relaxed) {
            return Some("the log has an event that this version does not understand");
        }
        let followed = *self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let age = followed.map(|at| now.duration_since(at));
        match age.map(Duration::try_from) {
            Some(Ok(age)) if age > FOLLOWED_WITHIN => Some("the log could not be read for too long"),
            Some(Ok(_) | Err(_)) => None,
            None => Some("the log was not read yet"),
        }
    }
}

/// What takes the fleet back.
const TRIGGERS: [&str; 4] = [
    "operator",
    "worse_than_baseline",
    "handshake_timeouts",
    "over_threshold",
];

/// How often the fleet was taken back, by who or what did it.
#[derive(Debug, Default)]
pub(super) struct Rollbacks([AtomicU64; TRIGGERS.len()]);

impl Rollbacks {
    fn count(&self, event: &Event) {
        let member = |name| event.detail.get(name).and_then(serde_json::Value::as_str);
        let trigger = match event.kind.as_str() {
            "rolled_back" => Some(event.actor.kind.as_str()),
            "rollout_moved" if member("event") == Some("condemned") => member("proof"),
            _ => None,
        };
        for (_, count) in TRIGGERS
            .iter()
            .zip(&self.0)
            .filter(|(name, _)| Some(**name) == trigger)
        {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// All of them: an increase from nothing is seen only of what was shown before.
    pub(super) fn by_trigger(&self) -> Vec<(&'static str, u64)> {
        let counts = self
            .0
            .iter()
            .map(|count| count.load(std::sync::atomic::Ordering::Relaxed));
        TRIGGERS.iter().copied().zip(counts).collect()
    }
}
