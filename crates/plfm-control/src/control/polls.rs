//! Waiting for news.

use std::sync::Arc;
use std::time::Duration;

use plfm_api::control::Generation;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::SemaphorePermit;

use super::{Control, Told};

impl Control {
    /// What hosts are told now.
    pub fn told(&self) -> Arc<Told> {
        self.0.told.borrow().clone()
    }

    /// What hosts are told, once it is newer than `after`. `None` when the time is over, or when too many wait.
    pub async fn told_after(&self, after: Generation, wait: Duration) -> Option<Arc<Told>> {
        let mut told = self.0.told.subscribe();
        let is_newer = |told: &Arc<Told>| told.generation > after;
        let now = told.borrow_and_update().clone();
        if is_newer(&now) {
            return Some(now);
        }
        let _place = self.place()?;
        tokio::select! {
            found = tokio::time::timeout(wait, told.wait_for(is_newer)) => found.ok()?.ok().map(|told| Arc::clone(&told)),
            () = self.0.ending.cancelled() => None,
        }
    }

    /// A place among those who wait, if there is one.
    fn place(&self) -> Option<Place<'_>> {
        let permit = self.0.polls.try_acquire().ok()?;
        let held = self.0.metrics.long_polls();
        held.inc();
        Some(Place {
            _permit: permit,
            held,
        })
    }

    /// Waits until the log goes on after a position, or the time is over.
    pub async fn position_after(&self, after: u64, wait: Duration) {
        let mut position = self.0.position.subscribe();
        if *position.borrow_and_update() > after {
            return;
        }
        let Ok(_place) = self.0.polls.try_acquire() else {
            return;
        };
        tokio::select! {
            _ = tokio::time::timeout(wait, position.wait_for(|position| *position > after)) => {}
            () = self.0.ending.cancelled() => {}
        }
    }
}

struct Place<'a> {
    _permit: SemaphorePermit<'a>,
    held: &'a Gauge,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.held.dec();
    }
}
