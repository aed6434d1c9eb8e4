//! What the control plane is still to be told, so that each boot counts once.
//!
//! ```text
//!            count             freeze                    acknowledge
//! a boot's  ──────>  tallies  ────────>  frozen news  ────────────────>  gone
//! record              (open)    n + 1     (never changes, is sent until the answer says n + 1)
//! ```
//!
//! Three facts make it once and only once (docs/decisions/0018-reports-counted-once.md):
//! - A boot is counted by its instance's id, in the very write that remembers the id. Counting it again changes nothing.
//! - News get a number and never change from then on. They are on disk before they are sent.
//! - The control plane takes news whose number is higher than the last it took of this stream, and no others.
//!
//! Pure: whoever has it writes it down. What is here may be ahead of the disk only while nothing of it was sent.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use plfm_api::control::{BUCKETS_MAX, HostStatus, OUTCOMES_MAX, OutcomeCount, ready_bucket};
use plfm_api::{BootOutcome, Counted};
use plfm_release::ReleaseId;
use serde::{Deserialize, Serialize};

/// Tallies that wait, at most: some hours of a host that boots several releases each minute. What is more is tallied by
/// the hour, then by the day: nothing is lost but the minute.
pub const TALLIES_MAX: usize = 2_048;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A boot that is over, well or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The instance's id.
    pub instance: String,
    /// What it booted.
    pub release: ReleaseId,
    /// When it began.
    pub began_at: Timestamp,
    /// How it went.
    pub outcome: BootOutcome,
    /// From the VM's start to ready, in milliseconds.
    pub ready_ms: Option<u64>,
    /// Whether it was begun as a canary's.
    pub is_canary: bool,
}

impl Boot {
    /// Whether it is told at once: a rollout waits for its canary's boots, and a failure may be why one is taken back.
    pub fn is_urgent(&self) -> bool {
        match self.outcome.counts() {
            Counted::Failure => true,
            Counted::Success | Counted::Not => self.is_canary,
        }
    }
}

/// What is sent under one number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// The number.
    pub sequence: u64,
    /// How the host was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<HostStatus>,
    /// Boots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<OutcomeCount>,
}

/// What an answer's number meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// These are taken, and gone from here.
    Taken(Box<News>),
    /// Nothing that was sent.
    Nothing,
    /// The control plane knows later news than were ever made here: this journal is an old copy of itself.
    Ahead,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Which run of numbers this is.
    stream: String,
    /// The number of the last news.
    sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frozen: Option<News>,
    /// In order of minute, release and outcome.
    #[serde(default)]
    tallies: Vec<OutcomeCount>,
    /// The instances whose boots are counted, for as long as their records may be read again.
    #[serde(default)]
    counted: BTreeSet<String>,
}

impl Journal {
    /// A journal that knows nothing: boots of `told` are not counted, as an earlier one may have done so.
    pub fn begin(stream: String, told: BTreeSet<String>) -> Self {
        Self {
            stream,
            sequence: 0,
            frozen: None,
            tallies: Vec::new(),
            counted: told,
        }
    }

    /// Which run of numbers this is.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The number of the last news.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What is to be sent until it is acknowledged.
    pub fn frozen(&self) -> Option<&News> {
        self.frozen.as_ref()
    }

    /// Whether there is more to tell than what is frozen.
    pub fn has_more(&self) -> bool {
        !self.tallies.is_empty()
    }

    /// Boots that are not acknowledged.
    pub fn unreported(&self) -> u64 {
        let frozen = self.frozen.iter().flat_map(|news| &news.outcomes);
        frozen
            .chain(&self.tallies)
            .map(|tally| u64::from(tally.count))
            .sum()
    }

    /// Counts a boot. `false`: it was counted before.
    pub fn count(&mut self, boot: &Boot) -> bool {
        if !self.counted.insert(boot.instance.clone()) {
            return false;
        }
        let ready_ms = boot.ready_ms.unwrap_or(0);
        self.add(OutcomeCount {
            release: boot.release.clone(),
            window: floor(boot.began_at, MINUTE),
            outcome: boot.outcome,
            count: 1,
            ready_ms_total: ready_ms,
            ready_ms_max: ready_ms,
            ready_ms_buckets: boot
                .ready_ms
                .map(|ms| (ready_bucket(ms), 1))
                .into_iter()
                .collect(),
        });
        for span in [HOUR, DAY] {
            if self.tallies.len() > TALLIES_MAX {
                self.coarsen(span);
            }
        }
        true
    }

    fn add(&mut self, tally: OutcomeCount) {
        match self.tallies.binary_search_by(|one| key(one).cmp(&key(&tally))) {
            Ok(place) => {
                if let Some(one) = self.tallies.get_mut(place) {
                    one.count = one.count.saturating_add(tally.count);
                    one.ready_ms_total = one.ready_ms_total.saturating_add(tally.ready_ms_total);
                    one.ready_ms_max = one.ready_ms_max.max(tally.ready_ms_max);
                    add_buckets(&mut one.ready_ms_buckets, &tally.ready_ms_buckets);
                }
            }
            Err(place) => self.tallies.insert(place, tally),
        }
    }

    fn coarsen(&mut self, span: SignedDuration) {
        for mut tally in std::mem::take(&mut self.tallies) {
            tally.window = floor(tally.window, span);
            self.add(tally);
        }
    }

    /// Gives what there is to tell a number, unless earlier news are not acknowledged yet. `true`: it must be written
    /// down before it is sent.
    pub fn freeze(&mut self, status: Option<&HostStatus>) -> bool {
        if self.frozen.is_some() || (self.tallies.is_empty() && status.is_none()) {
            return false;
        }
        let rest = self.tallies.split_off(self.fit());
        let outcomes = std::mem::replace(&mut self.tallies, rest);
        self.sequence += 1;
        self.frozen = Some(News {
            sequence: self.sequence,
            status: status.cloned(),
            outcomes,
        });
        true
    }

    /// How many of the tallies go into one heartbeat: one at least, if there is one.
    fn fit(&self) -> usize {
        let mut buckets = 0;
        let fitting = self.tallies.iter().take(OUTCOMES_MAX).take_while(|tally| {
            buckets += tally.ready_ms_buckets.len();
            buckets <= BUCKETS_MAX
        });
        fitting.count()
    }

    /// Takes an answer's number. What it acknowledges need not be written down at once: sent again, it changes nothing.
    pub fn acknowledge(&mut self, sequence: u64) -> Acknowledged {
        if sequence > self.sequence {
            return Acknowledged::Ahead;
        }
        match self.frozen.take_if(|news| news.sequence <= sequence) {
            Some(news) => Acknowledged::Taken(Box::new(news)),
            None => Acknowledged::Nothing,
        }
    }

    /// Begins another stream, as this one was continued by a later copy of the journal. What is not acknowledged goes:
    /// the later copy may have told it. Gives how many boots that are.
    pub fn restart(&mut self, stream: String) -> u64 {
        let lost = self.unreported();
        *self = Self::begin(stream, std::mem::take(&mut self.counted));
        lost
    }

    /// Forgets instances that no record can name any more. `true` if there was something to forget.
    pub fn forget(&mut self, gone: impl Fn(&str) -> bool) -> bool {
        let before = self.counted.len();
        self.counted.retain(|instance| !gone(instance));
        self.counted.len() != before
    }
}

fn key(tally: &OutcomeCount) -> (Timestamp, &ReleaseId, BootOutcome) {
    (tally.window, &tally.release, tally.outcome)
}

/// Adds counts by bucket, both in the order of the buckets.
fn add_buckets(to: &mut Vec<(u8, u32)>, from: &[(u8, u32)]) {
    for (bucket, count) in from {
        match to.binary_search_by_key(bucket, |(bucket, _)| *bucket) {
            Ok(place) => {
                if let Some((_, sum)) = to.get_mut(place) {
                    *sum = sum.saturating_add(*count);
                }
            }
            Err(place) => to.insert(place, (*bucket, *count)),
        }
    }
}

/// The beginning of the span that `at` is in.
fn floor(at: Timestamp, span: SignedDuration) -> Timestamp {
    let seconds = at.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(span.as_secs().max(1))).unwrap_or(at)
}

#[cfg(test)]
mod tests;
