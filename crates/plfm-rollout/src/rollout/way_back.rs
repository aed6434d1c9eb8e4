//! Where a rollback goes.

use plfm_release::ReleaseId;

use super::Plan;

/// What speaks against a release, apart from how its boots go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nothing.
    Good,
    /// A person blocked it.
    Blocked,
    /// The registry has it no more, or it is not to be trusted any more.
    Gone,
    /// The fleet was taken back from it, and no person has cleared it since.
    TakenBack,
}

/// What is known of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The release.
    pub release: ReleaseId,
    /// What speaks against it.
    pub standing: Standing,
    /// Active hosts that have it.
    pub hosts_with: u32,
    /// Active hosts that could not run it: their agent is too old, or speaks no protocol of it, or the machine is another.
    pub hosts_unable: u32,
}

/// The newest of the fleet's earlier `defaults`, given oldest first, that is not `but` and is good, present and compatible.
pub(super) fn way_back<'a>(
    plan: &Plan,
    defaults: &[ReleaseId],
    known: &'a [Known],
    hosts_active: u32,
    but: &ReleaseId,
) -> Option<&'a ReleaseId> {
    let fits = |one: &&Known| {
        let needed = u64::from(hosts_active) * u64::from(plan.way_back_present_min);
        one.standing == Standing::Good
            && one.hosts_unable == 0
            && u64::from(one.hosts_with) * 10_000 >= needed
    };
    let earlier = defaults.iter().rev().filter(|release| *release != but);
    earlier
        .filter_map(|release| known.iter().find(|one| one.release == *release))
        .find(fits)
        .map(|one| &one.release)
}
