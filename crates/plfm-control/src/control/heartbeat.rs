//! A heartbeat: checked, kept, answered.

use jiff::{SignedDuration, Timestamp};
use plfm_api::BootOutcome;
use plfm_api::control::{
    BUCKETS_MAX, Heartbeat, HeartbeatAnswer, HostId, HostStatus, OUTCOMES_MAX, OutcomeCount, READY_BUCKETS,
};

use super::{Control, ControlError, pace};
use crate::fleet::HostStanding;
use crate::store::Beat;

/// Releases that a host wants at once: what a target names is a few.
const WANTS_MAX: usize = 16;
/// Releases, kernels and protocols of one host: it keeps three releases and what is in use.
const INVENTORY_MAX: usize = 64;
/// Problems of one host, and the characters of each.
const PROBLEMS_MAX: usize = 16;
const PROBLEM_CHARS_MAX: usize = 1_024;
/// Characters of what runs microVMs: a name and a version.
const VMM_CHARS_MAX: usize = 128;
/// How far a host's clock may be ahead. What is further ahead counts for the minute in which it came: it is news, whatever
/// the clock says, and a window in the future would never be pruned.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(10);
/// Longest time to ready of one boot that is believed: a day, in milliseconds.
const READY_MS_MAX: u64 = 86_400_000;
/// Largest sequence: what both databases can store.
const SEQUENCE_MAX: u64 = i64::MAX as u64;

impl Control {
    /// Takes a host's word, and tells it what it should know. The caller knows that the host may speak.
    pub async fn heartbeat(&self, host: &HostId, beat: Heartbeat) -> Result<HeartbeatAnswer, ControlError> {
        let now = self.now();
        check(&beat).map_err(ControlError::Heartbeat)?;
        let beat = self.known(beat, now);
        let stream = beat.stream.parse().map_err(|_| {
            ControlError::Heartbeat(format!(
                "{:?} is not a stream, which is a ULID",
                shortened(&beat.stream)
            ))
        })?;
        let generation = beat.generation;
        let beat = Beat {
            host: host.clone(),
            stream,
            sequence: beat.sequence,
            agent_version: beat.agent_version,
            generation,
            seen_at: now,
            status: beat.status,
            outcomes: beat.outcomes,
            wants: beat.wants,
        };
        let taken = self.take_beat(beat).await?;
        if taken.refused {
            return Err(ControlError::StreamTooOld);
        }
        self.0.metrics.heartbeat(taken.applied);
        let told = self.told();
        let draining = self
            .fleet()
            .hosts()
            .get(host)
            .is_some_and(|record| record.standing == HostStanding::Draining);
        let next = self.0.pace.next(self.hosts_coming(), pace::random());
        Ok(HeartbeatAnswer {
            sequence: taken.sequence,
            generation: told.generation,
            target: (generation < told.generation).then(|| told.target.clone()),
            next_heartbeat_ms: u64::try_from(next.as_millis()).unwrap_or(u64::MAX),
            send_status: !taken.has_status,
            may_fetch: taken.may_fetch,
            drain: draining,
        })
    }

    /// What of it is about releases that the registry ever listed: others, which a lying host could make up without end,
    /// would stay in the totals for ever.
    fn known(&self, mut beat: Heartbeat, now: Timestamp) -> Heartbeat {
        let fleet = self.fleet();
        let latest = now.checked_add(AHEAD_MAX).unwrap_or(now);
        beat.outcomes
            .retain(|outcome| fleet.releases().contains_key(&outcome.release));
        for outcome in &mut beat.outcomes {
            if outcome.window > latest {
                outcome.window = minute_of(now);
            }
        }
        if let Some(status) = &mut beat.status {
            status
                .releases
                .retain(|release| fleet.releases().contains_key(&release.release));
        }
        beat
    }

    /// How many hosts come: those that ever enrolled, as most of them still do.
    fn hosts_coming(&self) -> u64 {
        self.0.hosts_coming.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn minute_of(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second() - at.as_second().rem_euclid(60)).unwrap_or(at)
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// What is wrong with a heartbeat in itself.
fn check(beat: &Heartbeat) -> Result<(), String> {
    at_most("outcomes", beat.outcomes.len(), OUTCOMES_MAX)?;
    let buckets = beat.outcomes.iter().map(|outcome| outcome.ready_ms_buckets.len());
    at_most("ready_ms_buckets", buckets.sum(), BUCKETS_MAX)?;
    at_most("wants", beat.wants.len(), WANTS_MAX)?;
    if beat.sequence > SEQUENCE_MAX || beat.generation.0 > SEQUENCE_MAX {
        return Err("sequence or generation is larger than any that was given".to_owned());
    }
    if beat.sequence == 0 && (beat.status.is_some() || !beat.outcomes.is_empty()) {
        return Err("news have a sequence from 1".to_owned());
    }
    beat.outcomes.iter().try_for_each(check_outcome)?;
    beat.status.as_ref().map_or(Ok(()), check_status)
}

fn at_most(what: &str, found: usize, most: usize) -> Result<(), String> {
    if found <= most {
        Ok(())
    } else {
        Err(format!("{what} has {found} items, {most} at most"))
    }
}

fn check_outcome(outcome: &OutcomeCount) -> Result<(), String> {
    if outcome.window.as_second() % 60 != 0 || outcome.window.subsec_nanosecond() != 0 {
        return Err(format!("{} is not a minute's beginning", outcome.window));
    }
    if outcome.window < Timestamp::UNIX_EPOCH {
        return Err(format!("{} is before any boot", outcome.window));
    }
    if outcome.count == 0 {
        return Err("an outcome has a count from 1".to_owned());
    }
    let believed = READY_MS_MAX.saturating_mul(outcome.count.into());
    if outcome.ready_ms_max > READY_MS_MAX || outcome.ready_ms_total > believed {
        return Err("a boot does not take longer than a day".to_owned());
    }
    check_buckets(outcome)
}

fn check_buckets(outcome: &OutcomeCount) -> Result<(), String> {
    let buckets = &outcome.ready_ms_buckets;
    if buckets.is_empty() {
        return Ok(());
    }
    if outcome.outcome != BootOutcome::Ready {
        return Err("only boots that became ready have a time to ready".to_owned());
    }
    let is_in_order = buckets.is_sorted_by(|(a, _), (b, _)| a < b);
    let is_known = buckets
        .iter()
        .all(|(bucket, count)| *bucket < READY_BUCKETS && *count > 0);
    if !is_in_order || !is_known {
        return Err(format!(
            "ready_ms_buckets are in order, each once, none empty, all below {READY_BUCKETS}"
        ));
    }
    let sum: u64 = buckets.iter().map(|(_, count)| u64::from(*count)).sum();
    if sum != u64::from(outcome.count) {
        return Err(format!(
            "ready_ms_buckets have {sum} boots, and the outcome {}",
            outcome.count
        ));
    }
    Ok(())
}

fn check_status(status: &HostStatus) -> Result<(), String> {
    let advertised = &status.advertisement;
    at_most("kernel_versions", advertised.kernel_versions.len(), INVENTORY_MAX)?;
    at_most(
        "guest_init_protocols",
        advertised.guest_init_protocols.len(),
        INVENTORY_MAX,
    )?;
    at_most("releases", status.releases.len(), INVENTORY_MAX)?;
    at_most("problems", status.problems.len(), PROBLEMS_MAX)?;
    let mut releases: Vec<_> = status.releases.iter().map(|release| &release.release).collect();
    releases.sort_unstable();
    if releases.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err("a release is listed twice".to_owned());
    }
    let texts = status.problems.iter().map(|text| (text, PROBLEM_CHARS_MAX));
    for (text, most) in texts.chain([(&status.vmm, VMM_CHARS_MAX)]) {
        if text.chars().count() > most || text.contains('\0') {
            return Err(format!("a text is longer than {most} characters, or has a NUL"));
        }
    }
    Ok(())
}
