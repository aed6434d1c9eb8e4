//! What the boots so far say about a release.

use jiff::Timestamp;

use super::apart::{Apart, set_apart, tail_exponent};
use super::evidence::{Block, Factors, Measure, against_baseline, against_threshold};
use super::outcome::{Minute, Pair, Tally};
use super::{Observed, Plan};

/// A minute.
const MINUTE_NANOSECONDS: i128 = 60_000_000_000;
/// How far back the baseline must be fine for the fleet to be.
const INCIDENT_MINUTES: i64 = 3;
/// How rarely chance looks like an incident in one look.
const INCIDENT_ONCE_IN: f64 = 1e8;
/// The rate below which no baseline's usual failures are taken.
const USUAL_RATE_MIN: f64 = 0.01;
/// The longest stretch of minutes that are compared as one.
const STRETCH_MINUTES: i64 = 10;
/// Failures of the baseline in a minute that are not chance.
const INCIDENT_FAILURES: f64 = 3.0;
/// Failures that the baseline must have had if it failed like the candidate, for their absence to say something.
const WITNESSES_MIN: f64 = 8.0;
/// Minutes that tell how many boots there are usually.
const USUAL_MINUTES: usize = 5;
/// Minutes before the rollout that tell what to expect of the baseline.
const BEFORE_MINUTES: i64 = 120;

/// What the boots so far say about a release. Evidence is in logarithms.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// The candidate's counted boots in this wave.
    pub sample: Tally,
    /// All of the candidate's counted boots that are judged, and the baseline's in the same minutes.
    pub judged: Pair,
    /// The baseline's counted boots lately.
    pub baseline_lately: Tally,
    /// Hosts with failures of the candidate that count.
    pub failing_hosts: u32,
    /// Hosts that are set apart.
    pub apart: Vec<Apart>,
    /// That it is worse than the baseline by more than the margin.
    pub worse: f64,
    /// That it has more handshake timeouts than the baseline by more than the margin.
    pub timeouts: f64,
    /// That it is worse than the baseline at all.
    pub any_worse: f64,
    /// That more of its boots than the threshold fail.
    pub over: f64,
    /// That more of its boots than of the baseline's are slow, by more than the margin.
    pub late: f64,
    /// Whether the baseline's boots fail, these minutes.
    pub is_incident: bool,
}

/// What was reckoned for one decision about a rollout and need not be reckoned again for the next.
///
/// Any will do for any decision, an empty one too: the decision is the same, and only takes longer.
#[derive(Debug, Clone, Default)]
pub struct Reckoned {
    worse: Factors,
    timeouts: Factors,
    any_worse: Factors,
    late: Factors,
}

/// What proves a release bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// More of its boots fail than of the baseline's, by more than the margin.
    WorseThanBaseline,
    /// More of its boots end in a handshake timeout than of the baseline's, by more than the margin.
    HandshakeTimeouts,
    /// More of its boots fail than the threshold allows, and more than of the baseline's.
    OverThreshold,
}

impl Proof {
    /// A stable word for programs, metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorseThanBaseline => "worse_than_baseline",
            Self::HandshakeTimeouts => "handshake_timeouts",
            Self::OverThreshold => "over_threshold",
        }
    }
}

/// What the boots so far come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is bad.
    Bad(Proof),
    /// More of its boots fail than the threshold allows; that it is the release's doing is not shown.
    Over,
    /// The baseline fails: something is wrong with the fleet.
    Incident,
    /// It is worse than the baseline, by less than takes it back.
    Worse,
    /// Its boots are slow.
    Slow,
    /// So far more of its boots failed than the threshold allows, which may be chance.
    Above,
    /// Nothing speaks against it.
    Fine,
}

impl Health {
    /// Of what was observed.
    pub fn of(reckoned: &mut Reckoned, plan: &Plan, fleet: &Observed<'_>, now: Timestamp) -> Self {
        let watch = Watch::new(plan, now);
        let apart = set_apart(plan, fleet.outcomes);
        let minutes = minutes(fleet, &apart);
        let rollout = fleet.rollout;
        let judged_from = Minute::of(rollout.judged_since);
        let block = |(minute, pair): &(Minute, Pair)| Block {
            round: fleet.outcomes.round_of(*minute).max(judged_from),
            pair: *pair,
        };
        let first = minutes.partition_point(|(minute, _)| *minute < judged_from);
        let (before, since) = minutes.split_at_checked(first).unwrap_or_default();
        let begin = before.partition_point(|(minute, _)| minute.0 < judged_from.0 - BEFORE_MINUTES);
        let before: Vec<Block> = before.iter().skip(begin).map(block).collect();
        let closed = since.partition_point(|(minute, _)| watch.is_judged(*minute));
        let is_settled = |(minute, _): &&(Minute, Pair)| fleet.outcomes.is_settled(*minute);
        let closed = since
            .iter()
            .take(closed)
            .filter(is_settled)
            .map(|one| (one.0, block(one)));
        let closed = merge(closed, f64::from(plan.compared_with), watch);
        let threshold = f64::from(plan.threshold) / 10_000.0;
        let usual = usual_boots(fleet, watch);
        let own = |(minute, pair): &&(Minute, Pair)| {
            witness(*minute, pair, usual, threshold, watch) == Witness::Well
        };
        let own: Vec<(Minute, Pair)> = since.iter().filter(own).copied().collect();
        let (baseline_lately, is_incident) = incident(&minutes, usual, threshold, watch);
        let margin = f64::from(plan.margin) / 10_000.0;
        let against = |factors, measure, margin| against_baseline(factors, &before, &closed, measure, margin);
        Self {
            sample: sum(&own, |minute| minute >= Minute::of(rollout.wave_since)).candidate,
            judged: sum(since, |_| true),
            baseline_lately,
            failing_hosts: failing_hosts(fleet, judged_from, &apart),
            worse: against(&mut reckoned.worse, Measure::Failures, margin),
            timeouts: against(&mut reckoned.timeouts, Measure::Timeouts, margin),
            any_worse: against(&mut reckoned.any_worse, Measure::Failures, 0.0),
            over: against_threshold(&own.iter().map(block).collect::<Vec<_>>(), threshold),
            is_incident,
            late: against(&mut reckoned.late, Measure::Late, margin),
            apart,
        }
    }

    /// What it comes to.
    pub fn verdict(&self, plan: &Plan, hosts_active: u32) -> Verdict {
        let proven = f64::from(plan.false_rollback_one_in).ln();
        let likely = f64::from(plan.false_pause_one_in).ln();
        let threshold = f64::from(plan.threshold) / 10_000.0;
        let above = self.sample.failure_rate() > threshold;
        let over = self.over >= proven || (above && self.sample.boots >= f64::from(plan.sample_enough));
        let spread = self.failing_hosts >= plan.hosts_min.min(hosts_active);
        match () {
            () if spread && self.worse >= proven => Verdict::Bad(Proof::WorseThanBaseline),
            () if spread && self.timeouts >= proven => Verdict::Bad(Proof::HandshakeTimeouts),
            () if spread && over && self.any_worse >= f64::from(plan.agreed_one_in).ln() => {
                Verdict::Bad(Proof::OverThreshold)
            }
            () if spread && over => Verdict::Over,
            () if self.is_incident => Verdict::Incident,
            () if spread && self.any_worse >= likely => Verdict::Worse,
            () if self.late >= likely => Verdict::Slow,
            () if above => Verdict::Above,
            () => Verdict::Fine,
        }
    }
}

/// Minutes into stretches with enough of the baseline's boots to compare with. Only minutes in which the candidate was booted
/// belong to one: then both were booted at the same times, as closely as minutes tell. A stretch is judged when it has enough, or
/// has lasted its longest; one that goes on is not judged yet, for its factor is one number and not a course of it.
fn merge(minutes: impl Iterator<Item = (Minute, Block)>, enough: f64, watch: Watch) -> Vec<Block> {
    let mut stretches: Vec<(Minute, Block)> = Vec::new();
    for (minute, block) in minutes.filter(|(_, block)| block.pair.candidate.boots > 0.0) {
        let goes_on = |(begin, last): &&mut (Minute, Block)| {
            last.round == block.round
                && last.pair.baseline.boots < enough
                && minute.0 < begin.0 + STRETCH_MINUTES
        };
        match stretches.last_mut().filter(goes_on) {
            Some((_, last)) => {
                last.pair.candidate = last.pair.candidate.plus(block.pair.candidate);
                last.pair.baseline = last.pair.baseline.plus(block.pair.baseline);
            }
            None => stretches.push((minute, block)),
        }
    }
    let is_over = |(begin, block): &(Minute, Block)| {
        block.pair.baseline.boots >= enough || watch.is_judged(Minute(begin.0 + STRETCH_MINUTES - 1))
    };
    stretches
        .into_iter()
        .filter(is_over)
        .map(|(_, block)| block)
        .collect()
}

/// Boots of the baseline in a minute with the share that it has now, as there were boots of both lately.
fn usual_boots(fleet: &Observed<'_>, watch: Watch) -> f64 {
    let heard = fleet
        .outcomes
        .volume()
        .iter()
        .rev()
        .filter(|(minute, _)| watch.is_judged(**minute));
    let (boots, of) = heard
        .take(USUAL_MINUTES)
        .fold((0.0, 0.0), |(boots, of), (_, volume)| (boots + volume, of + 1.0));
    let share = fleet
        .told
        .candidate_share(&fleet.rollout.candidate, fleet.hosts.active);
    if of > 0.0 { boots / of * (1.0 - share) } else { 0.0 }
}

/// When it is, and which minutes are judged by now.
#[derive(Debug, Clone, Copy)]
struct Watch {
    now: Timestamp,
    /// The first minute that is not judged yet.
    unjudged: Minute,
}

impl Watch {
    fn new(plan: &Plan, now: Timestamp) -> Self {
        let heard_until = now.as_nanosecond() - plan.judged_after.as_nanos();
        let unjudged = i64::try_from(heard_until.div_euclid(MINUTE_NANOSECONDS));
        Self {
            now,
            unjudged: Minute(unjudged.unwrap_or(i64::MIN)),
        }
    }

    fn is_judged(self, minute: Minute) -> bool {
        minute < self.unjudged
    }

    /// How much of a minute is over.
    fn gone(self, minute: Minute) -> f64 {
        (self.now.duration_since(minute.begin()).as_secs_f64() / 60.0).clamp(0.0, 1.0)
    }
}

/// What the baseline's boots of a minute say about the candidate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Witness {
    /// They went well.
    Well,
    /// At least half as many failed as the threshold allows: what the candidate did in it is no fault of its own.
    Failed,
    /// There are not enough yet to show what the candidate's show.
    Silent,
}

/// Failures are reported at once and good boots with the next heartbeat, so the boots of a minute that is not heard of to the
/// end are taken for as many as usual.
fn witness(minute: Minute, pair: &Pair, usual: f64, threshold: f64, watch: Watch) -> Witness {
    let is_heard = watch.is_judged(minute);
    let expected = if is_heard { 0.0 } else { usual * watch.gone(minute) };
    let boots = pair.baseline.boots.max(expected);
    let failed = pair.baseline.failures;
    match () {
        () if failed >= INCIDENT_FAILURES && failed * 2.0 > boots * threshold && boots > 0.0 => {
            Witness::Failed
        }
        () if !is_heard && expected * pair.candidate.failure_rate() < WITNESSES_MIN => Witness::Silent,
        () => Witness::Well,
    }
}

/// The baseline's boots lately, and whether so many of them fail that it is neither usual nor chance.
fn incident(minutes: &[(Minute, Pair)], usual: f64, threshold: f64, watch: Watch) -> (Tally, bool) {
    let begin = minutes.partition_point(|(minute, _)| minute.0 <= Minute::of(watch.now).0 - INCIDENT_MINUTES);
    let (before, lately) = minutes.split_at_checked(begin).unwrap_or_default();
    let usual_rate = sum(before, |_| true).baseline.failure_rate().max(USUAL_RATE_MIN);
    let lately = lately.iter().fold(Tally::default(), |sum, (minute, pair)| {
        let expected = if watch.is_judged(*minute) {
            0.0
        } else {
            usual * watch.gone(*minute)
        };
        let boots = pair.baseline.boots.max(expected);
        sum.plus(Tally {
            boots,
            ..pair.baseline
        })
    });
    let is_chance = tail_exponent(lately.failures, lately.boots, usual_rate) < INCIDENT_ONCE_IN.ln();
    (lately, lately.failure_rate() > threshold && !is_chance)
}

/// All minutes, without the failures of hosts that are set apart.
fn minutes(fleet: &Observed<'_>, apart: &[Apart]) -> Vec<(Minute, Pair)> {
    let mut minutes: Vec<(Minute, Pair)> = fleet
        .outcomes
        .minutes()
        .iter()
        .map(|(minute, pair)| (*minute, *pair))
        .collect();
    let records = apart.iter().filter_map(|one| fleet.outcomes.host(one.host));
    for (minute, side, tally) in records.flat_map(|record| &record.counted) {
        let found = minutes.binary_search_by_key(minute, |(minute, _)| *minute);
        if let Some((_, pair)) = found.ok().and_then(|at| minutes.get_mut(at)) {
            let sum = pair.side_mut(*side);
            *sum = sum.without_failures_of(*tally);
        }
    }
    minutes
}

fn sum(minutes: &[(Minute, Pair)], counts: impl Fn(Minute) -> bool) -> Pair {
    let counted = minutes.iter().filter(|(minute, _)| counts(*minute));
    counted.fold(Pair::default(), |sum, (_, pair)| Pair {
        candidate: sum.candidate.plus(pair.candidate),
        baseline: sum.baseline.plus(pair.baseline),
    })
}

fn failing_hosts(fleet: &Observed<'_>, since: Minute, apart: &[Apart]) -> u32 {
    let apart = apart
        .iter()
        .filter(|one| fleet.outcomes.has_failed_since(one.host, since))
        .count();
    let failing = fleet.outcomes.failing_since(since);
    failing.saturating_sub(u32::try_from(apart).unwrap_or(u32::MAX))
}
