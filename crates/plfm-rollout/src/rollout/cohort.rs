//! How many hosts, and how often each: the bound on what a release can do before anybody knows.
//!
//! A host has a **place** for each release: a number from a hash of both. A cohort is the hosts below some place, so one
//! number names any number of hosts, a larger cohort contains every smaller one, and no host is always the first.
//!
//! Invariant: hosts × boots each is what may be begun, whoever is cut off from whom.

use plfm_release::{ReleaseId, Sha256Hasher};

/// Everything, in hundredths of a percent.
const WHOLE: u16 = 10_000;
/// Keeps this hash from being the hash of anything else.
const DOMAIN: &[u8] = b"plfm canary hosts v1\0";

/// How far a cohort shall reach, in hosts and boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cohort {
    /// How many hosts.
    pub hosts: u32,
    /// How many boots of the release each of them may begin, counted from the rollout's start.
    pub boots_each: u32,
    /// Until then: the share of its new instances that boot it, in hundredths of a percent.
    pub share: u16,
}

impl Cohort {
    /// The cohort that begins `boots` boots at most, of `hosts` that could.
    ///
    /// Where it is most of the hosts, half of their new instances go on with the baseline: there must be something to compare
    /// with at the same time.
    pub fn of(boots: u32, hosts: u32) -> Self {
        let chosen = boots.min(hosts);
        Self {
            hosts: chosen,
            boots_each: boots.checked_div(chosen).unwrap_or(0),
            share: if chosen > hosts / 2 { WHOLE / 2 } else { WHOLE },
        }
    }

    /// What it begins at most.
    pub fn boots(self) -> u32 {
        self.hosts.saturating_mul(self.boots_each)
    }
}

/// Where a host stands in the line for a release.
pub fn place(release: &ReleaseId, host: &str) -> u32 {
    let mut hasher = Sha256Hasher::new();
    hasher.update(DOMAIN);
    hasher.update(release.to_string().as_bytes());
    hasher.update(b"\0");
    hasher.update(host.as_bytes());
    let digest = hasher.finish();
    let mut first = [0; 4];
    for (to, from) in first.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    u32::from_be_bytes(first)
}

/// The place below which there are `hosts` of those whose places these are: fewer where two share one.
///
/// None if there are not more than `hosts` of them: then all belong to it.
pub fn bound(places: impl IntoIterator<Item = u32>, hosts: u32) -> Option<u32> {
    let mut places: Vec<u32> = places.into_iter().collect();
    let at = usize::try_from(hosts).ok().filter(|at| *at < places.len())?;
    let (_, place, _) = places.select_nth_unstable(at);
    Some(*place)
}
