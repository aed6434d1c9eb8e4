//! Heartbeats, many at once: a batch is one transaction with a handful of statements, whatever its size.
//!
//! Each host's row is locked first, in the order of the hosts' ids, so that two replicas take turns per host and never
//! wait for each other in a circle. What is news is then decided by [`judge`], which is pure, and written.

mod inventory;
mod judge;
mod known;
mod leases;
mod outcomes;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use plfm_api::control::{Generation, HostId, HostStatus, OutcomeCount};
use plfm_release::ReleaseId;
use ulid::Ulid;

pub use judge::STREAMS_MAX;
pub use leases::{LEASE_HELD_MAX, LEASE_RENEWED_FOR};

use super::{Store, StoreError};
use judge::{Judgement, Known};

/// A heartbeat, as it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// Whose.
    pub host: HostId,
    /// Which run of sequences.
    pub stream: Ulid,
    /// The number of the news in it; with no news, that of the last.
    pub sequence: u64,
    /// The agent's version.
    pub agent_version: semver::Version,
    /// The generation that the host goes by.
    pub generation: Generation,
    /// When it arrived here.
    pub seen_at: Timestamp,
    /// How the host is, if it said so.
    pub status: Option<HostStatus>,
    /// Boots.
    pub outcomes: Vec<OutcomeCount>,
    /// Releases that it wants to fetch.
    pub wants: Vec<ReleaseId>,
}

impl Beat {
    /// Whether there is something in it that counts once.
    pub fn has_news(&self) -> bool {
        self.status.is_some() || !self.outcomes.is_empty()
    }
}

/// What became of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Whose.
    pub host: HostId,
    /// The last news of that stream that are kept.
    pub sequence: u64,
    /// Whether the news in it were new.
    pub applied: bool,
    /// The stream is older than those that are remembered: nothing of it is taken, now or later. The host must begin
    /// another one.
    pub refused: bool,
    /// Whether the host's status is here and nothing was missed since. Otherwise it should send it.
    pub has_status: bool,
    /// Of what it wants, what it may fetch now.
    pub may_fetch: Vec<ReleaseId>,
}

/// A heartbeat and what it is found to be.
struct Judged<'a> {
    beat: &'a Beat,
    known: Known,
    judgement: Judgement,
}

impl Store {
    /// Takes heartbeats, all of them or none. Each host once. News are applied if their sequence is greater than the last
    /// one of their stream that was; whatever else only moves last seen forward.
    ///
    /// At most `fetches_max` hosts may fetch at once; 0 is no bound. After [`StoreError::Unavailable`] it may have
    /// happened: take them again.
    pub async fn take_beats(
        &self,
        beats: &[Beat],
        fetches_max: u32,
        now: Timestamp,
    ) -> Result<Vec<Taken>, StoreError> {
        if beats.is_empty() {
            return Ok(Vec::new());
        }
        let sorted = sorted_by_host(beats)?;
        let mut change = self.backend.begin().await?;
        let known = known::touch(&mut change, &sorted).await?;
        let judged = judge_all(&sorted, known)?;
        known::keep_hosts(&mut change, &judged).await?;
        known::keep_streams(&mut change, &judged).await?;
        let differences = inventory::replace(&mut change, &judged).await?;
        let may_fetch = leases::settle(&mut change, &judged, fetches_max, now).await?;
        outcomes::add(&mut change, &judged).await?;
        inventory::add_to_totals(&mut change, &differences).await?;
        change.commit().await?;
        let mut taken: BTreeMap<&HostId, Taken> = judged
            .iter()
            .map(|judged| (&judged.beat.host, taken_of(judged, &may_fetch)))
            .collect();
        Ok(beats.iter().filter_map(|beat| taken.remove(&beat.host)).collect())
    }
}

fn sorted_by_host(beats: &[Beat]) -> Result<Vec<&Beat>, StoreError> {
    let mut sorted: Vec<&Beat> = beats.iter().collect();
    sorted.sort_by(|a, b| a.host.cmp(&b.host));
    let twice = sorted.windows(2).find_map(|pair| match pair {
        [a, b] if a.host == b.host => Some(a.host.to_string()),
        _ => None,
    });
    match twice {
        Some(host) => Err(StoreError::HostTwice { host }),
        None => Ok(sorted),
    }
}

fn judge_all<'a>(
    sorted: &[&'a Beat],
    mut known: BTreeMap<String, Known>,
) -> Result<Vec<Judged<'a>>, StoreError> {
    let mut judged = Vec::with_capacity(sorted.len());
    for beat in sorted {
        let known = known
            .remove(beat.host.as_str())
            .ok_or_else(|| StoreError::corrupt(format!("host {} is gone", beat.host)))?;
        let judgement = judge::judge(&known, beat);
        judged.push(Judged {
            beat,
            known,
            judgement,
        });
    }
    Ok(judged)
}

fn taken_of(judged: &Judged<'_>, may_fetch: &BTreeSet<HostId>) -> Taken {
    let Judged { beat, judgement, .. } = judged;
    Taken {
        host: beat.host.clone(),
        sequence: judgement.sequence,
        applied: judgement.applied,
        refused: judgement.refused,
        has_status: judgement.host.status_at.is_some() && !judgement.host.status_wanted,
        may_fetch: if may_fetch.contains(&beat.host) {
            leases::wanted(beat)
        } else {
            Vec::new()
        },
    }
}
