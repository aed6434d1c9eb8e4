use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

fn release(n: usize) -> ReleaseId {
    format!("6.1.{n}-a+guestinit-1.0.0-a").parse().unwrap()
}

fn bound(boots_each: u32, since: u64) -> Bound {
    Bound {
        hosts_below: None,
        boots_each,
        since,
    }
}

fn open(dir: &Path) -> BegunBoots {
    BegunBoots::open(dir, Generation(7)).unwrap()
}

/// How many of `launches` begin, one after the other.
fn begin_many(boots: &BegunBoots, n: usize, bound: Bound, launches: usize) -> usize {
    let begun = (0..launches).filter(|_| boots.begin(&release(n), bound).is_ok());
    begun.count()
}

#[test]
fn a_thousand_launches_at_once_begin_no_more_than_they_may() {
    let dir = tempfile::tempdir().unwrap();
    let boots = open(dir.path());
    let begun = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..50 {
                    match boots.begin(&release(1), bound(16, 3)) {
                        Ok(()) => {
                            begun.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => assert!(matches!(error, BeginError::UsedUp), "{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(begun.load(Ordering::SeqCst), 16);
    assert_eq!(
        open(dir.path()).begun(&release(1), bound(16, 3)),
        Begun::Boots(16)
    );
}

#[test]
fn a_later_step_of_the_rollout_goes_on_with_its_count_and_a_later_rollout_does_not() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(begin_many(&open(dir.path()), 1, bound(1, 3), 5), 1);
    assert_eq!(begin_many(&open(dir.path()), 1, bound(4, 3), 5), 3);
    assert_eq!(begin_many(&open(dir.path()), 1, bound(4, 9), 5), 4);
    assert_eq!(
        begin_many(&open(dir.path()), 2, bound(2, 9), 5),
        2,
        "each release has its own"
    );
}

#[test]
fn of_a_rollout_whose_count_is_gone_none_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    let boots = open(dir.path());
    assert_eq!(begin_many(&boots, 1, bound(4, 9), 1), 1);
    assert_eq!(begin_many(&boots, 1, bound(4, 3), 1), 0);
    assert_eq!(
        boots.begun(&release(1), bound(4, 3)),
        Begun::Uncountable(EARLIER.to_owned())
    );
}

#[test]
fn a_count_that_cannot_be_read_ends_the_rollout_here_and_not_the_next() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), "{").unwrap();
    let boots = open(dir.path());
    assert_eq!(begin_many(&boots, 1, bound(4, 7), 2), 0);
    assert_eq!(begin_many(&boots, 1, bound(4, 8), 2), 2);
    assert_eq!(begin_many(&open(dir.path()), 1, bound(4, 8), 4), 2);
}

#[test]
fn a_boot_that_cannot_be_written_down_does_not_begin() {
    let dir = tempfile::tempdir().unwrap();
    let boots = open(dir.path());
    // Nothing can be put in the place of what is written.
    std::fs::create_dir(dir.path().join(format!("{FILE}.new"))).unwrap();
    assert!(matches!(
        boots.begin(&release(1), bound(4, 3)),
        Err(BeginError::Disk(_))
    ));
    std::fs::remove_dir(dir.path().join(format!("{FILE}.new"))).unwrap();
    assert_eq!(begin_many(&boots, 1, bound(4, 3), 5), 4, "and wastes none");
}

#[test]
fn a_control_plane_that_names_ever_more_releases_fills_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let boots = open(dir.path());
    for n in 0..RELEASES_MAX {
        assert_eq!(begin_many(&boots, n, bound(1, 3), 1), 1);
    }
    assert_eq!(begin_many(&boots, RELEASES_MAX, bound(1, 3), 1), 0);
    assert_eq!(
        begin_many(&boots, 0, bound(2, 3), 1),
        1,
        "those that are known go on"
    );
}

/// When the agent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Not,
    BeforeTheCount,
    /// The count is on disk, and no VM is made.
    BeforeTheStart,
    AfterTheStart,
}

fn deaths() -> impl Strategy<Value = Death> {
    prop_oneof![
        4 => Just(Death::Not),
        1 => Just(Death::BeforeTheCount),
        1 => Just(Death::BeforeTheStart),
        1 => Just(Death::AfterTheStart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// VMs that start are never more than the bound, whenever the agent dies; each death wastes one boot at most.
    #[test]
    fn no_more_start_than_may_whenever_the_agent_dies(
        boots_each in 1..6_u32, launches in prop::collection::vec(deaths(), 0..24),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut boots, mut started, mut wasted, mut asked) = (open(dir.path()), 0_u32, 0_u32, 0_u32);
        for death in launches {
            if death != Death::BeforeTheCount {
                asked += 1;
                if boots.begin(&release(1), bound(boots_each, 3)).is_ok() {
                    if death == Death::BeforeTheStart { wasted += 1 } else { started += 1 }
                }
            }
            if death != Death::Not {
                boots = open(dir.path());
            }
            prop_assert!(started <= boots_each);
        }
        prop_assert_eq!(started + wasted, asked.min(boots_each));
    }
}
