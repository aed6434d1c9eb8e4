#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

fn id(n: usize) -> ReleaseId {
    format!("6.1.{n}-a+guestinit-1.0.0-a").parse().unwrap()
}

/// Release `n`, installed in hour `hour`.
fn installed(n: usize, hour: i64) -> Installed {
    Installed {
        release: id(n),
        installed_at: Some(Timestamp::from_second(hour * 3600).unwrap()),
        bootable: true,
    }
}

fn removed(installed: &[Installed], in_use: &InUse) -> Vec<ReleaseId> {
    retain(installed, in_use).remove
}

#[test]
fn a_fourth_release_makes_the_oldest_go() {
    let releases: Vec<_> = (0..4).map(|n| installed(n, n as i64)).collect();
    assert_eq!(removed(&releases[..3], &InUse::default()), []);
    assert_eq!(removed(&releases, &InUse::default()), [id(0)]);
}

#[test]
fn what_was_installed_last_is_last_whatever_its_version() {
    // 6.1.9 came back after 6.1.10 and later ones.
    let releases = [
        installed(9, 50),
        installed(10, 10),
        installed(11, 20),
        installed(12, 30),
    ];
    assert_eq!(removed(&releases, &InUse::default()), [id(10)]);
}

#[test]
fn what_is_in_use_stays_beside_the_last_three() {
    let releases: Vec<_> = (0..8).map(|n| installed(n, n as i64)).collect();
    let in_use = InUse {
        running: [id(0)].into(),
        current: Some(id(1)),
        rollback_target: Some(id(2)),
        pinned: [id(3), id(7)].into(),
        ..InUse::default()
    };
    let plan = retain(&releases, &in_use);
    assert_eq!(plan.remove, [id(4)]);
    assert_eq!(plan.keep[&id(0)], [Reason::Running]);
    assert_eq!(plan.keep[&id(1)], [Reason::Current]);
    assert_eq!(plan.keep[&id(2)], [Reason::RollbackTarget]);
    let recent = |place| Reason::Recent { place, of: 3 };
    assert_eq!(plan.keep[&id(7)], [Reason::Pinned, recent(1)]);
    assert_eq!(plan.keep[&id(5)], [recent(3)]);
}

#[test]
fn what_cannot_be_booted_takes_no_place_from_what_can() {
    let mut releases: Vec<_> = (0..5).map(|n| installed(n, n as i64)).collect();
    releases[4].bootable = false;
    releases[3].installed_at = None;
    let plan = retain(&releases, &InUse::default());
    // 3 counts as the oldest of those that can be booted, 4 comes after all of them.
    assert_eq!(plan.remove, [id(4), id(3)]);
    // Alone, it stays: the keyring may be what is wrong.
    assert_eq!(removed(&releases[4..], &InUse::default()), []);
}

#[test]
fn what_is_in_use_and_not_installed_is_no_part_of_the_plan() {
    let in_use = InUse {
        current: Some(id(9)),
        ..InUse::default()
    };
    assert_eq!(retain(&[], &in_use), Retention::default());
    assert_eq!(in_use.releases(), [id(9)].into());
}

#[test]
fn reasons_are_for_people() {
    let said = |reason: Reason| reason.to_string();
    assert_eq!(said(Reason::Running), "instances run it");
    assert_eq!(said(Reason::Targeted), "the control plane's target names it");
    assert_eq!(said(Reason::Recent { place: 2, of: 3 }), "number 2 of the last 3");
}

const RELEASES: usize = 9;

/// Distinct releases, some installed at the same moment, some that cannot be booted or have lost their moment.
fn releases() -> impl Strategy<Value = Vec<Installed>> {
    let facts = (prop::option::weighted(0.9, 0..6_i64), prop::bool::weighted(0.8));
    prop::collection::btree_map(0..RELEASES, facts, 0..RELEASES).prop_map(|facts| {
        let one = |(n, (hour, bootable)): (usize, (Option<i64>, bool))| Installed {
            installed_at: hour.map(|hour| Timestamp::from_second(hour * 3600).unwrap()),
            bootable,
            ..installed(n, 0)
        };
        facts.into_iter().map(one).collect()
    })
}

fn in_use() -> impl Strategy<Value = InUse> {
    let some = || prop::collection::btree_set((0..RELEASES).prop_map(id), 0..4);
    let one = || prop::option::of((0..RELEASES).prop_map(id));
    (some(), one(), one(), some(), some(), 0..5_usize).prop_map(
        |(running, current, rollback_target, pinned, targeted, last)| InUse {
            running,
            current,
            rollback_target,
            pinned,
            targeted,
            last,
        },
    )
}

proptest! {
    #[test]
    fn every_release_is_kept_with_a_reason_or_removed(installed in releases(), in_use in in_use()) {
        let plan = retain(&installed, &in_use);
        let mut all: Vec<_> = plan.keep.keys().chain(&plan.remove).cloned().collect();
        all.sort();
        let mut expected: Vec<_> = installed.iter().map(|one| one.release.clone()).collect();
        expected.sort();
        prop_assert_eq!(all, expected);
        prop_assert!(plan.keep.values().all(|reasons| !reasons.is_empty()));
    }

    #[test]
    fn nothing_in_use_is_removed(installed in releases(), in_use in in_use()) {
        let used = in_use.releases();
        for release in retain(&installed, &in_use).remove {
            prop_assert!(!used.contains(&release));
        }
    }

    #[test]
    fn the_last_n_are_kept_or_all_there_are(installed in releases(), in_use in in_use()) {
        let plan = retain(&installed, &in_use);
        prop_assert!(plan.keep.len() >= in_use.last.min(installed.len()));
        // And no release that goes is newer than one that is kept for its age alone.
        let rank = |release: &ReleaseId| {
            let one = installed.iter().find(|one| one.release == *release).unwrap();
            (one.bootable, one.installed_at)
        };
        for (kept, reasons) in &plan.keep {
            if matches!(reasons[0], Reason::Recent { .. }) {
                prop_assert!(plan.remove.iter().all(|gone| rank(gone) <= rank(kept)));
            }
        }
    }

    #[test]
    fn a_plan_that_was_carried_out_removes_nothing_more(installed in releases(), in_use in in_use()) {
        let plan = retain(&installed, &in_use);
        let left: Vec<_> = installed.into_iter().filter(|one| plan.keep.contains_key(&one.release)).collect();
        let next = retain(&left, &in_use);
        prop_assert_eq!(next.remove, []);
        prop_assert_eq!(next.keep, plan.keep);
    }

    #[test]
    fn more_in_use_never_means_less_kept(installed in releases(), in_use in in_use(), more in in_use()) {
        let both = InUse {
            running: in_use.running.union(&more.running).cloned().collect(),
            current: in_use.current.clone().or(more.current),
            rollback_target: in_use.rollback_target.clone().or(more.rollback_target),
            pinned: in_use.pinned.union(&more.pinned).cloned().collect(),
            targeted: in_use.targeted.union(&more.targeted).cloned().collect(),
            last: in_use.last.max(more.last),
        };
        let (fewer, plan) = (retain(&installed, &in_use), retain(&installed, &both));
        prop_assert!(fewer.keep.keys().all(|release| plan.keep.contains_key(release)));
    }

    #[test]
    fn the_order_of_the_facts_does_not_matter(
        (installed, shuffled) in releases().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        in_use in in_use(),
        twice in any::<Index>(),
    ) {
        let plan = retain(&installed, &in_use);
        prop_assert_eq!(&retain(&shuffled, &in_use), &plan);
        if !shuffled.is_empty() {
            let again = [shuffled.clone(), vec![shuffled[twice.index(shuffled.len())].clone()]].concat();
            prop_assert_eq!(&retain(&again, &in_use), &plan);
        }
    }
}
