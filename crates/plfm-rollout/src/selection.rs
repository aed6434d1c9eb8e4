//! What a new instance boots, and why.
//!
//! ```text
//! what the request names ──> that or nothing
//! a pin, by name then by id ──> the canary's cohort ──> the cluster's default ──> what the host has as current
//! ```
//!
//! The first of these that is on the host, may be booted there and is not blocked is taken; what was passed over for it
//! is part of the answer. So a host that was not yet able to fetch what it shall boot goes on with what it has.
//!
//! A canary may have a [`Bound`]: it is taken on the first hosts in line only, and so many times on each. The host counts
//! what it began; here the count is a fact.
//!
//! Invariants, each a property test: the same facts give the same release; a blocked, refused or absent one is never
//! taken; raising a canary's weight, or the bound of its hosts, moves instances to it and none away from it; a canary
//! with a bound is never taken by more instances than it allows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plfm_release::{ReleaseId, Sha256Hasher};

use crate::rollout::cohort;

/// A weight of everything, in hundredths of a percent.
pub const WEIGHT_MAX: u16 = 10_000;
/// Keeps the cohorts' hash from being the hash of anything else.
const COHORT_DOMAIN: &[u8] = b"plfm canary cohort v1\0";

/// What the control plane told, as far as it matters here. Empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What new instances boot.
    pub default: Option<ReleaseId>,
    /// What a share of them boots instead.
    pub canary: Option<Canary>,
    /// What particular instances boot, by their name or id.
    pub pins: BTreeMap<String, ReleaseId>,
    /// What no new instance boots, whatever else is said.
    pub blocked: BTreeSet<ReleaseId>,
}

/// A release that a share of new instances boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// The release.
    pub release: ReleaseId,
    /// The share, in hundredths of a percent: 0 to [`WEIGHT_MAX`]. With a bound, of its hosts' new instances.
    pub weight: u16,
    /// Where and how often it may be taken; without one, everywhere and always.
    pub bound: Option<Bound>,
}

/// What a canary may not go beyond: hosts × boots each, whoever is cut off from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Hosts whose [place](cohort::place) in the line for the release is below this; all hosts without it.
    pub hosts_below: Option<u32>,
    /// Boots that each of them may begin.
    pub boots_each: u32,
    /// Which rollout the boots are counted for: a higher number is a later one, and has a count of its own.
    pub since: u64,
}

/// The instance that is to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewInstance<'a> {
    /// Its id.
    pub id: &'a str,
    /// What people call it.
    pub name: Option<&'a str>,
    /// The release that its request names.
    pub requested: Option<&'a ReleaseId>,
}

/// What this host knows of the releases in question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnHost {
    /// Those that are installed. What is not here is absent.
    pub installed: BTreeMap<ReleaseId, Standing>,
    /// What the host has as current.
    pub current: Option<ReleaseId>,
    /// What the control plane calls this host. Without it the host has no place in any line.
    pub id: Option<String>,
    /// Boots that count against the canary's bound here.
    pub begun: Begun,
}

/// How many boots of a bounded canary were begun on this host, as far as it can count them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// So many.
    Boots(u32),
    /// One more cannot be counted, so none is begun. Why, for people.
    Uncountable(String),
}

impl Default for Begun {
    fn default() -> Self {
        Self::Boots(0)
    }
}

/// Whether an installed release may be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Bootable,
    /// It must not: it is not trusted any more, or does not fit this agent. Why, for people.
    Refused(String),
}

/// Why a release was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The request names it.
    Requested,
    /// It is pinned to the instance's name or id.
    Pinned,
    /// It is the canary, and the instance is in its cohort.
    Canary,
    /// It is the cluster's default.
    Default,
    /// It is what the host has as current, and nobody said anything else that holds here.
    Current,
}

impl Reason {
    /// A stable word for programs and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Pinned => "pinned",
            Self::Canary => "canary",
            Self::Default => "default",
            Self::Current => "current",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "requested: the request names it",
            Self::Pinned => "pinned: it is pinned to this instance",
            Self::Canary => "canary: the instance is in the canary's cohort",
            Self::Default => "default: it is the cluster's default",
            Self::Current => "current: it is the host's current release",
        })
    }
}

/// Why a release cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// An operator blocked it.
    Blocked,
    /// It is not on this host.
    Absent,
    /// It must not be booted here. Why, for people.
    Refused(String),
    /// It is a canary, and as many boots of it as each host may begin were begun here: so many.
    UsedUp(u32),
    /// It is a canary whose boots are counted, and one more cannot be. Why, for people.
    Uncountable(String),
}

impl Obstacle {
    /// Whether it stands in the release's way for whatever reason it is taken, not as a canary only.
    fn is_of_release(&self) -> bool {
        match self {
            Self::Blocked | Self::Absent | Self::Refused(_) => true,
            Self::UsedUp(_) | Self::Uncountable(_) => false,
        }
    }
}

/// A release that would have come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Why it would have been taken.
    pub reason: Reason,
    /// The release.
    pub release: ReleaseId,
    /// Why it was not.
    pub obstacle: Obstacle,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, release, .. } = self;
        write!(f, "{} {release} ", reason.as_str())?;
        match &self.obstacle {
            Obstacle::Blocked => f.write_str("is blocked"),
            Obstacle::Absent => f.write_str("is not on this host yet"),
            Obstacle::Refused(why) => write!(f, "is refused here ({why})"),
            Obstacle::UsedUp(1) => f.write_str("had the one boot that each host may begin"),
            Obstacle::UsedUp(boots) => write!(f, "had the {boots} boots that each host may begin"),
            Obstacle::Uncountable(why) => {
                write!(f, "is not begun here, as one more boot cannot be counted ({why})")
            }
        }
    }
}

/// What a new instance boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The release.
    pub release: ReleaseId,
    /// Why this one.
    pub reason: Reason,
    /// What would have come before it, in order.
    pub passed_over: Vec<PassedOver>,
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.passed_over.is_empty() {
            return self.reason.fmt(f);
        }
        write_all(f, &self.passed_over)?;
        write!(f, ": booted the {} {}", self.reason.as_str(), self.release)
    }
}

fn write_all(f: &mut fmt::Formatter<'_>, passed_over: &[PassedOver]) -> fmt::Result {
    for (index, passed) in passed_over.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{passed}")?;
    }
    Ok(())
}

/// Why nothing can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRelease {
    /// What the request names cannot be taken, and nothing else is taken for it.
    Requested(Box<PassedOver>),
    /// Nothing that could be taken was left. Empty: nobody named a release at all.
    NothingLeft(Vec<PassedOver>),
}

impl NoRelease {
    /// Stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Requested(passed) => match passed.obstacle {
                Obstacle::Blocked => "release_blocked",
                Obstacle::Absent => "release_unknown",
                Obstacle::Refused(_) | Obstacle::UsedUp(_) | Obstacle::Uncountable(_) => "release_refused",
            },
            Self::NothingLeft(_) => "no_current_release",
        }
    }
}

impl fmt::Display for NoRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested(passed) => passed.fmt(f),
            Self::NothingLeft(passed) if passed.is_empty() => {
                f.write_str("this host has no current release to boot")
            }
            Self::NothingLeft(passed) => {
                f.write_str("this host has no release to boot: ")?;
                write_all(f, passed)
            }
        }
    }
}

impl std::error::Error for NoRelease {}

/// What an instance would boot on the host `host`, best first: the releases that it has to look at.
pub fn candidates(
    policy: &Policy,
    instance: NewInstance<'_>,
    host: Option<&str>,
    current: Option<&ReleaseId>,
) -> Vec<(Reason, ReleaseId)> {
    if let Some(requested) = instance.requested {
        return vec![(Reason::Requested, requested.clone())];
    }
    let pin = instance
        .name
        .and_then(|name| policy.pins.get(name))
        .or_else(|| policy.pins.get(instance.id));
    let canary = policy
        .canary
        .as_ref()
        .filter(|canary| is_in_line(canary, host) && in_cohort(canary, instance.id));
    [
        (Reason::Pinned, pin),
        (Reason::Canary, canary.map(|canary| &canary.release)),
        (Reason::Default, policy.default.as_ref()),
        (Reason::Current, current),
    ]
    .into_iter()
    .filter_map(|(reason, release)| Some((reason, release?.clone())))
    .collect()
}

/// Chooses what `instance` boots.
pub fn select_release(
    policy: &Policy,
    instance: NewInstance<'_>,
    host: &OnHost,
) -> Result<Selection, NoRelease> {
    let mut passed_over: Vec<PassedOver> = Vec::new();
    for (reason, release) in candidates(policy, instance, host.id.as_deref(), host.current.as_ref()) {
        // Named twice, it is no better the second time.
        if passed_over
            .iter()
            .any(|passed| passed.release == release && passed.obstacle.is_of_release())
        {
            continue;
        }
        match obstacle(policy, host, reason, &release) {
            None => {
                return Ok(Selection {
                    release,
                    reason,
                    passed_over,
                });
            }
            Some(obstacle) => passed_over.push(PassedOver {
                reason,
                release,
                obstacle,
            }),
        }
    }
    match passed_over.pop() {
        Some(only) if only.reason == Reason::Requested => Err(NoRelease::Requested(Box::new(only))),
        last => {
            passed_over.extend(last);
            Err(NoRelease::NothingLeft(passed_over))
        }
    }
}

fn obstacle(policy: &Policy, host: &OnHost, reason: Reason, release: &ReleaseId) -> Option<Obstacle> {
    if policy.blocked.contains(release) {
        return Some(Obstacle::Blocked);
    }
    match host.installed.get(release) {
        None => Some(Obstacle::Absent),
        Some(Standing::Refused(why)) => Some(Obstacle::Refused(why.clone())),
        Some(Standing::Bootable) => match reason {
            Reason::Canary => policy
                .canary
                .as_ref()
                .and_then(|canary| exhausted(canary, &host.begun)),
            Reason::Requested | Reason::Pinned | Reason::Default | Reason::Current => None,
        },
    }
}

/// Why a canary is not taken once more on a host where `begun` is known of it.
fn exhausted(canary: &Canary, begun: &Begun) -> Option<Obstacle> {
    let bound = canary.bound?;
    match begun {
        Begun::Boots(boots) if *boots < bound.boots_each => None,
        Begun::Boots(_) => Some(Obstacle::UsedUp(bound.boots_each)),
        Begun::Uncountable(why) => Some(Obstacle::Uncountable(why.clone())),
    }
}

/// Whether a host is among those that boot the canary.
pub fn is_in_line(canary: &Canary, host: Option<&str>) -> bool {
    let Some(below) = canary.bound.and_then(|bound| bound.hosts_below) else {
        return true;
    };
    host.is_some_and(|host| cohort::place(&canary.release, host) < below)
}

/// Whether an instance is in the canary's cohort. By a hash of both: each canary draws its instances anew, and one that
/// is in at a weight is in at every higher one.
pub fn in_cohort(canary: &Canary, instance_id: &str) -> bool {
    let mut hasher = Sha256Hasher::new();
    hasher.update(COHORT_DOMAIN);
    hasher.update(canary.release.to_string().as_bytes());
    hasher.update(b"\0");
    hasher.update(instance_id.as_bytes());
    let digest = hasher.finish();
    let draw = digest
        .as_bytes()
        .first_chunk::<8>()
        .map_or(0, |first| u64::from_be_bytes(*first));
    draw % u64::from(WEIGHT_MAX) < u64::from(canary.weight)
}

#[cfg(test)]
mod tests;
