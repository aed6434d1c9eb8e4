//! Hosts whose word about failures is not taken, and why.
//!
//! A host is set apart when so many of its boots fail, and so few of the others', that chance would do this to one host of
//! the whole fleet once in [`ONCE_IN`] rollouts. What it reports as failed counts no more, of either release.
//!
//! A host where only the candidate fails may be broken, may lie, or may be the kind of host that the release is broken on.
//! So only a few of those are set apart. When there are more it is the release's doing.

use super::Plan;
use super::outcome::{Host, HostRecord, Outcomes, Pair, Side, Tally};

/// How rarely a host is set apart by chance.
const ONCE_IN: f64 = 1_000.0;
/// The rate below which nobody's failures are the measure for others'.
const RATE_MIN: f64 = 0.005;
/// The share of hosts that may be set apart for failing whatever they boot, in hundredths of a percent. More is an outage.
const BROKEN_MAX: u16 = 500;
/// Failures beyond which it is not reckoned whether they could stand out.
const FAILURES_MAX: u32 = 1_000;
/// With fewer hosts than this, none is set apart for failing the candidate alone.
const HOSTS_FEW: usize = 20;

/// What a host was set apart for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Boots fail on it whatever they boot.
    Broken,
    /// Only boots of the candidate fail on it, and hardly anywhere else.
    Alone,
}

/// A host that is set apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Apart {
    /// The host.
    pub host: Host,
    /// Why.
    pub fault: Fault,
    /// What it reported of both releases.
    pub reported: Pair,
}

/// The hosts that are set apart.
pub(super) fn set_apart(plan: &Plan, outcomes: &Outcomes) -> Vec<Apart> {
    let sum = outcomes
        .minutes()
        .values()
        .fold(Pair::default(), |sum, pair| Pair {
            candidate: sum.candidate.plus(pair.candidate),
            baseline: sum.baseline.plus(pair.baseline),
        });
    let hosts = usize::try_from(outcomes.hosts_count()).unwrap_or(usize::MAX);
    let bound = (ONCE_IN * f64::from(outcomes.hosts_count().max(1))).ln();
    let least = |all: Tally| failures_least(all, bound);
    let suspects = outcomes.suspects(least(sum.candidate).min(least(sum.baseline)));
    let suspects = suspects.filter_map(|(host, record)| {
        let fault = fault(record, outcomes, &sum, bound)?;
        Some(Apart {
            host,
            fault,
            reported: record.all,
        })
    });
    let suspects: Vec<Apart> = suspects.collect();
    let few = |fault: Fault, most: usize| {
        let those = || suspects.iter().filter(move |apart| apart.fault == fault).copied();
        let count = those().count();
        those().take(if count <= most { count } else { 0 })
    };
    let share = |of: usize, share: u16| (of * usize::from(share) / 10_000).max(1);
    let booted = hosts.min(sum.candidate.boots.max(0.0) as usize);
    let alone_max = if hosts < HOSTS_FEW {
        0
    } else {
        share(booted, plan.apart_max)
    };
    let broken_max = share(hosts, BROKEN_MAX);
    few(Fault::Broken, broken_max)
        .chain(few(Fault::Alone, alone_max))
        .collect()
}

/// Failures that a host has at least if it stands out among all, however few boots it had: a look at the others is saved.
pub(super) fn failures_least(all: Tally, bound: f64) -> u64 {
    let others = |failures: u32| {
        let failures = f64::from(failures);
        let own = Tally {
            failures,
            ..Tally::default()
        };
        all.without_failures_of(own).failure_rate().max(RATE_MIN)
    };
    // Below the bound by more than rounding can be.
    let stands_out = |failures: &u32| -f64::from(*failures) * others(*failures).ln() > bound * (1.0 - 1e-9);
    u64::from((1..FAILURES_MAX).find(stands_out).unwrap_or(FAILURES_MAX))
}

fn fault(record: &HostRecord, outcomes: &Outcomes, sum: &Pair, bound: f64) -> Option<Fault> {
    let Pair { candidate, baseline } = record.all;
    let stands_out = |own: Tally, side: Side, all: Tally| {
        let boots = own.boots + outcomes.spread_per_host(side);
        let others = all
            .without_failures_of(record.counted(side))
            .failure_rate()
            .max(RATE_MIN);
        tail_exponent(own.failures, boots, others) > bound
    };
    let on_baseline = stands_out(baseline, Side::Baseline, sum.baseline);
    let on_candidate = stands_out(candidate, Side::Candidate, sum.candidate);
    let boots = baseline.boots + outcomes.spread_per_host(Side::Baseline);
    // A fault that is everywhere in the candidate is not this host's, whatever else the host has.
    match (on_baseline, on_candidate) {
        (true, _) => Some(Fault::Broken),
        (false, true) if baseline.failures * 2.0 > boots => Some(Fault::Broken),
        (false, true) => Some(Fault::Alone),
        (false, false) => None,
    }
}

/// Chernoff: the chance of so many failures or more is at most `exp` of the negative of this.
pub(super) fn tail_exponent(failures: f64, boots: f64, rate: f64) -> f64 {
    let share = (failures / boots.max(failures)).min(1.0);
    if share <= rate {
        return 0.0;
    }
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    boots * (part(share, rate) + part(1.0 - share, 1.0 - rate))
}
