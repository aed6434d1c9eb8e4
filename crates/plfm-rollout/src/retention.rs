//! Which releases a host keeps, and why.
//!
//! The spec's "Old artifacts MUST be retained for rollback (retention policy: last 3 versions)", and beyond it
//! whatever somebody needs:
//!
//! ```text
//! kept = the last n  +  what instances run  +  the current one  +  the way back  +  what is pinned  +  the target's
//! ```
//!
//! Invariants, each a property test:
//! - What is in use is kept, whatever its age. In use adds to the last n and never takes a place among them.
//! - At least the smaller of n and the number of releases is kept.
//! - The order of the facts does not matter, more in use never means less kept, and once the plan is carried out
//!   the next one removes nothing.
//!
//! A release is kept or removed whole: artifacts, manifest and signature.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use plfm_release::ReleaseId;

/// How many releases are kept for their age alone: the spec's "last 3 versions".
pub const LAST_RELEASES: usize = 3;

/// A release that is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The release.
    pub release: ReleaseId,
    /// When it was installed; `None` where its record does not tell any more, which counts as the oldest.
    pub installed_at: Option<Timestamp>,
    /// Whether it could be booted: its manifest is whole, trusted, and fits this agent. One that could not is no way
    /// back, so it is among the last n only where there are not enough of the others.
    pub bootable: bool,
}

/// What is in use on the host, and what else must stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// What any instance runs.
    pub running: BTreeSet<ReleaseId>,
    /// What new instances get.
    pub current: Option<ReleaseId>,
    /// What new instances would get after a rollback.
    pub rollback_target: Option<ReleaseId>,
    /// What somebody wants to stay, for an instance or for a reason of their own.
    pub pinned: BTreeSet<ReleaseId>,
    /// What the control plane's target names: what would be fetched again at once if it went.
    pub targeted: BTreeSet<ReleaseId>,
    /// How many are kept for their age alone. [`LAST_RELEASES`] by default.
    pub last: usize,
}

impl Default for InUse {
    fn default() -> Self {
        Self {
            running: BTreeSet::new(),
            current: None,
            rollback_target: None,
            pinned: BTreeSet::new(),
            targeted: BTreeSet::new(),
            last: LAST_RELEASES,
        }
    }
}

impl InUse {
    /// Every release that somebody uses, installed or not, whatever its age.
    pub fn releases(&self) -> BTreeSet<ReleaseId> {
        let one = [&self.current, &self.rollback_target].into_iter().flatten();
        let many = self.running.iter().chain(&self.pinned).chain(&self.targeted);
        one.chain(many).cloned().collect()
    }
}

/// Why a release is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// An instance runs it.
    Running,
    /// New instances get it.
    Current,
    /// It is the way back.
    RollbackTarget,
    /// Somebody wants it to stay.
    Pinned,
    /// The control plane's target names it.
    Targeted,
    /// It is among the last ones; 1 is the newest.
    Recent {
        /// Its place.
        place: usize,
        /// How many are kept for their age.
        of: usize,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("instances run it"),
            Self::Current => f.write_str("current"),
            Self::RollbackTarget => f.write_str("rollback target"),
            Self::Pinned => f.write_str("pinned"),
            Self::Targeted => f.write_str("the control plane's target names it"),
            Self::Recent { place, of } => write!(f, "number {place} of the last {of}"),
        }
    }
}

/// What a host keeps and what it removes. Every installed release is in one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// What stays, each with at least one reason, the strongest first.
    pub keep: BTreeMap<ReleaseId, Vec<Reason>>,
    /// What goes, oldest first: whoever has to stop in the middle has removed what is missed least.
    pub remove: Vec<ReleaseId>,
}

/// Decides which of the `installed` releases a host keeps.
///
/// "Last" is by the moment of installation on this host, newest first: after a rollback in a fleet an older version
/// may be the newer installation, and that is the one which was wanted last. Releases installed at one moment are
/// ordered by their ids. A release that is listed twice counts once, with what keeps it longer.
pub fn retain(installed: &[Installed], in_use: &InUse) -> Retention {
    let mut plan = Retention::default();
    for (index, release) in newest_first(installed).into_iter().enumerate() {
        let reasons = reasons(release, index + 1, in_use);
        if reasons.is_empty() {
            plan.remove.push(release.clone());
        } else {
            plan.keep.insert(release.clone(), reasons);
        }
    }
    plan.remove.reverse();
    plan
}

/// The releases in the order in which they are kept for their age.
fn newest_first(installed: &[Installed]) -> Vec<&ReleaseId> {
    let mut ranks = BTreeMap::new();
    for Installed {
        release,
        installed_at,
        bootable,
    } in installed
    {
        // `None` is before every moment.
        let rank = (*bootable, *installed_at);
        let best = ranks.entry(release).or_insert(rank);
        *best = rank.max(*best);
    }
    let mut ranked: Vec<_> = ranks
        .into_iter()
        .map(|(release, (bootable, at))| (bootable, at, release))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().rev().map(|(_, _, release)| release).collect()
}

fn reasons(release: &ReleaseId, place: usize, in_use: &InUse) -> Vec<Reason> {
    let recent = Reason::Recent {
        place,
        of: in_use.last,
    };
    [
        (in_use.running.contains(release), Reason::Running),
        (in_use.current.as_ref() == Some(release), Reason::Current),
        (
            in_use.rollback_target.as_ref() == Some(release),
            Reason::RollbackTarget,
        ),
        (in_use.pinned.contains(release), Reason::Pinned),
        (in_use.targeted.contains(release), Reason::Targeted),
        (place <= in_use.last, recent),
    ]
    .into_iter()
    .filter_map(|(holds, reason)| holds.then_some(reason))
    .collect()
}

#[cfg(test)]
mod tests;
