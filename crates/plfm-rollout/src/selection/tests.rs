#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn id(n: usize) -> ReleaseId {
    format!("6.1.{n}-a+guestinit-1.0.0-a").parse().unwrap()
}

fn instance(id: &str) -> NewInstance<'_> {
    NewInstance {
        id,
        name: None,
        requested: None,
    }
}

/// A host that has the releases `bootable`, the first of them as current.
fn host(bootable: &[usize]) -> OnHost {
    OnHost {
        installed: bootable.iter().map(|n| (id(*n), Standing::Bootable)).collect(),
        current: bootable.first().map(|n| id(*n)),
    }
}

fn all_canary(n: usize) -> Option<Canary> {
    Some(Canary {
        release: id(n),
        weight: WEIGHT_MAX,
    })
}

fn full_policy() -> Policy {
    Policy {
        default: Some(id(1)),
        canary: all_canary(2),
        pins: [("web".to_owned(), id(3)), ("I-1".to_owned(), id(4))].into(),
        blocked: BTreeSet::new(),
    }
}

fn chosen(policy: &Policy, instance: NewInstance<'_>, host: &OnHost) -> (usize, &'static str) {
    let selection = select_release(policy, instance, host).unwrap();
    let n = (0..20).find(|n| id(*n) == selection.release).unwrap();
    (n, selection.reason.as_str())
}

#[test]
fn the_order_is_request_pin_canary_default_current() {
    let (policy, host) = (full_policy(), host(&[0, 1, 2, 3, 4, 5]));
    let five = id(5);
    let requested = NewInstance {
        requested: Some(&five),
        name: Some("web"),
        ..instance("I-1")
    };
    assert_eq!(chosen(&policy, requested, &host), (5, "requested"));
    let named = NewInstance {
        name: Some("web"),
        ..instance("I-1")
    };
    assert_eq!(chosen(&policy, named, &host), (3, "pinned"));
    assert_eq!(chosen(&policy, instance("I-1"), &host), (4, "pinned"));
    assert_eq!(chosen(&policy, instance("I-2"), &host), (2, "canary"));
    let no_canary = Policy {
        canary: None,
        ..policy
    };
    assert_eq!(chosen(&no_canary, instance("I-2"), &host), (1, "default"));
    assert_eq!(chosen(&Policy::default(), instance("I-2"), &host), (0, "current"));
}

#[test]
fn what_is_not_here_yet_is_passed_over_and_named() {
    let policy = Policy {
        default: Some(id(1)),
        ..Policy::default()
    };
    let selection = select_release(&policy, instance("I"), &host(&[0])).unwrap();
    assert_eq!(
        selection.to_string(),
        "default 6.1.1-a+guestinit-1.0.0-a is not on this host yet: booted the current 6.1.0-a+guestinit-1.0.0-a"
    );
    let taken = select_release(&policy, instance("I"), &host(&[0, 1])).unwrap();
    assert_eq!(taken.to_string(), "default: it is the cluster's default");
}

#[test]
fn a_block_holds_against_everything() {
    let mut policy = full_policy();
    policy.blocked = [id(0), id(2), id(4)].into();
    let host = host(&[0, 1, 2, 3, 4]);
    assert_eq!(chosen(&policy, instance("I-1"), &host), (1, "default"));
    let two = id(2);
    let requested = NewInstance {
        requested: Some(&two),
        ..instance("I")
    };
    let refusal = select_release(&policy, requested, &host).unwrap_err();
    assert_eq!(refusal.code(), "release_blocked");
    assert_eq!(
        refusal.to_string(),
        "requested 6.1.2-a+guestinit-1.0.0-a is blocked"
    );
    let only_current = Policy {
        blocked: [id(0)].into(),
        ..Policy::default()
    };
    let refusal = select_release(&only_current, instance("I"), &host).unwrap_err();
    assert_eq!(refusal.code(), "no_current_release");
    assert!(refusal.to_string().contains("is blocked"), "{refusal}");
}

#[test]
fn a_requested_release_is_that_or_nothing() {
    let mut host = host(&[0, 1]);
    host.installed
        .insert(id(6), Standing::Refused("key revoked".to_owned()));
    for (n, code) in [(5, "release_unknown"), (6, "release_refused")] {
        let release = id(n);
        let requested = NewInstance {
            requested: Some(&release),
            ..instance("I")
        };
        let refusal = select_release(&full_policy(), requested, &host).unwrap_err();
        assert_eq!(refusal.code(), code);
    }
    let nothing = select_release(&Policy::default(), instance("I"), &OnHost::default()).unwrap_err();
    assert_eq!(
        (nothing.code(), nothing.to_string().as_str()),
        ("no_current_release", "this host has no current release to boot")
    );
}

#[test]
fn a_release_that_is_named_twice_is_passed_over_once() {
    let policy = Policy {
        default: Some(id(2)),
        canary: all_canary(2),
        ..Policy::default()
    };
    let selection = select_release(&policy, instance("I"), &host(&[0])).unwrap();
    assert_eq!(selection.passed_over.len(), 1);
    assert_eq!(selection.passed_over[0].reason, Reason::Canary);
}

#[test]
fn cohorts_are_the_same_everywhere_and_forever() {
    // Known values: a change of the hash would move running fleets' cohorts.
    let canary = |weight| Canary {
        release: id(1),
        weight,
    };
    let draws: Vec<u16> = ["01J0", "01J1", "01J2"]
        .iter()
        .map(|instance| {
            (0..=WEIGHT_MAX)
                .find(|weight| in_cohort(&canary(*weight), instance))
                .unwrap()
        })
        .collect();
    assert_eq!(draws, KNOWN_DRAWS);
}

/// The lowest weights at which three instances are in release 1's cohort.
const KNOWN_DRAWS: [u16; 3] = [3_444, 2_283, 2_992];

#[test]
fn the_canarys_share_is_its_weight() {
    // Six standard deviations: a right hash fails this once in 500 million seeds, and the seed is fixed.
    for (n, weight) in [(1, 100_u16), (2, 500), (3, 2_500), (4, 5_000), (5, 9_900)] {
        let canary = Canary {
            release: id(n),
            weight,
        };
        let trials = 20_000_u32;
        let hits = (0..trials)
            .filter(|i| in_cohort(&canary, &format!("01J{i:023}")))
            .count();
        let share = f64::from(weight) / f64::from(WEIGHT_MAX);
        let mean = share * f64::from(trials);
        let deviation = (mean * (1.0 - share)).sqrt();
        let off = (f64::from(u32::try_from(hits).unwrap()) - mean).abs();
        assert!(off < 6.0 * deviation, "weight {weight}: {hits} of {trials}");
    }
}

#[test]
fn each_canary_draws_its_own_instances() {
    let cohort = |n| {
        let canary = Canary {
            release: id(n),
            weight: 5_000,
        };
        (0..2_000)
            .map(|i| in_cohort(&canary, &format!("I{i}")))
            .collect::<Vec<_>>()
    };
    let (first, second) = (cohort(1), cohort(2));
    let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    assert!((800..1_200).contains(&same), "{same} of 2000 are the same");
}

const RELEASES: usize = 5;

fn some_release() -> impl Strategy<Value = Option<ReleaseId>> {
    prop::option::of((0..RELEASES).prop_map(id))
}

fn policies() -> impl Strategy<Value = Policy> {
    let canary = prop::option::of((0..RELEASES, 0..=WEIGHT_MAX));
    let pins = prop::collection::btree_map("[ab]", (0..RELEASES).prop_map(id), 0..3);
    let blocked = prop::collection::btree_set((0..RELEASES).prop_map(id), 0..3);
    (some_release(), canary, pins, blocked).prop_map(|(default, canary, pins, blocked)| Policy {
        default,
        canary: canary.map(|(n, weight)| Canary {
            release: id(n),
            weight,
        }),
        pins,
        blocked,
    })
}

fn hosts() -> impl Strategy<Value = OnHost> {
    let standing = prop::bool::ANY.prop_map(|bootable| match bootable {
        true => Standing::Bootable,
        false => Standing::Refused("untrusted".to_owned()),
    });
    let installed = prop::collection::btree_map((0..RELEASES).prop_map(id), standing, 0..=RELEASES);
    (installed, some_release()).prop_map(|(installed, current)| OnHost { installed, current })
}

proptest! {
    #[test]
    fn only_what_is_here_and_allowed_is_taken(
        policy in policies(), host in hosts(), who in "[a-z]{1,3}", name in prop::option::of("[ab]"), requested in some_release(),
    ) {
        let instance = NewInstance { id: &who, name: name.as_deref(), requested: requested.as_ref() };
        let first = select_release(&policy, instance, &host);
        prop_assert_eq!(&first, &select_release(&policy, instance, &host));
        match first {
            Ok(selection) => {
                prop_assert!(!policy.blocked.contains(&selection.release));
                prop_assert_eq!(host.installed.get(&selection.release), Some(&Standing::Bootable));
                if let Some(requested) = &requested {
                    prop_assert_eq!(&selection.release, requested);
                }
                for passed in &selection.passed_over {
                    prop_assert!(obstacle(&policy, &host, &passed.release).is_some());
                }
            }
            // Nothing that was named could have been taken.
            Err(_) => for (_, release) in candidates(&policy, instance, host.current.as_ref()) {
                prop_assert!(obstacle(&policy, &host, &release).is_some());
            },
        }
    }

    #[test]
    fn a_pin_that_can_be_booted_wins(mut policy in policies(), mut host in hosts(), who in "[a-z]{1,3}", pinned in 0..RELEASES) {
        policy.pins.insert("db".to_owned(), id(pinned));
        policy.blocked.remove(&id(pinned));
        host.installed.insert(id(pinned), Standing::Bootable);
        let instance = NewInstance { id: &who, name: Some("db"), requested: None };
        let selection = select_release(&policy, instance, &host).unwrap();
        prop_assert_eq!((selection.release, selection.reason), (id(pinned), Reason::Pinned));
    }

    #[test]
    fn a_higher_weight_only_adds_instances(who in "[0-9A-Z]{1,26}", a in 0..=WEIGHT_MAX, b in 0..=WEIGHT_MAX) {
        let canary = |weight| Canary { release: id(1), weight };
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(!in_cohort(&canary(low), &who) || in_cohort(&canary(high), &who));
        prop_assert!(!in_cohort(&canary(0), &who));
        prop_assert!(in_cohort(&canary(WEIGHT_MAX), &who));
    }
}
