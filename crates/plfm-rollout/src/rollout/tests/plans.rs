use super::*;

#[test]
fn the_plans_that_are_given_make_sense() {
    assert_eq!(Plan::default().check(), Ok(()));
    assert_eq!(Plan::emergency().check(), Ok(()));
}

#[test]
fn a_plan_that_makes_no_sense_is_refused_and_says_what_is_wrong() {
    let plan = Plan::default();
    let waves = |shares: &[u16]| {
        let wave = |share: &u16| Wave {
            share: *share,
            ..plan.waves[0].clone()
        };
        shares.iter().map(wave).collect::<Vec<_>>()
    };
    let with = |changes| Plan::default().with(changes).map_err(|error| error.code());
    let waved = |shares: &[u16]| {
        with(Override {
            waves: Some(waves(shares)),
            ..Override::default()
        })
    };
    assert_eq!(waved(&[]).err(), Some("plan_waves"));
    assert_eq!(waved(&[100, 100, 10_000]).err(), Some("plan_shares"));
    assert_eq!(waved(&[0, 10_000]).err(), Some("plan_shares"));
    assert_eq!(waved(&[100, 5_000]).err(), Some("plan_shares"));
    assert!(waved(&[2_000, 10_000]).is_ok());
    let mut long = waves(&[2_000, 10_000]);
    long[1].soak_min = long[1].wait_max + SignedDuration::from_secs(1);
    assert_eq!(
        with(Override {
            waves: Some(long),
            ..Override::default()
        })
        .err(),
        Some("plan_durations")
    );
    assert_eq!(
        with(Override {
            threshold: Some(0),
            ..Override::default()
        })
        .err(),
        Some("plan_threshold")
    );
    assert_eq!(
        with(Override {
            hosts_min: Some(0),
            ..Override::default()
        })
        .err(),
        Some("plan_sample")
    );
    let check = |plan: Plan| plan.check().map_err(|error| error.code());
    assert_eq!(
        check(Plan {
            probe: vec![64, 16],
            ..Plan::default()
        }),
        Err("plan_probe")
    );
    assert_eq!(
        check(Plan {
            holdback: 6_000,
            ..Plan::default()
        }),
        Err("plan_share")
    );
    assert_eq!(
        check(Plan {
            false_rollback_one_in: 10,
            ..Plan::default()
        }),
        Err("plan_false_alarms")
    );
    assert_eq!(
        check(Plan {
            probe: vec![],
            ..Plan::default()
        }),
        Ok(())
    );
}

#[test]
fn a_cohort_never_begins_more_boots_than_it_may() {
    for boots in [0, 1, 15, 16, 64, 256] {
        for hosts in [0, 1, 2, 3, 10, 16, 100, 100_000] {
            let cohort = Cohort::of(boots, hosts);
            assert!(
                cohort.boots() <= boots && cohort.hosts <= hosts,
                "{boots} {hosts} {cohort:?}"
            );
            assert_eq!(cohort.boots() == 0, boots == 0 || hosts == 0);
        }
    }
}

#[test]
fn a_bound_has_as_many_hosts_below_it_and_a_larger_cohort_contains_a_smaller_one() {
    let hosts: Vec<String> = (0..5_000)
        .map(|n| format!("01JAAAAAAAAAAAAAAAAAAA{n:04}"))
        .collect();
    let places: Vec<u32> = hosts.iter().map(|host| cohort::place(&id(9), host)).collect();
    for wanted in [1, 16, 64, 256, 4_999] {
        let bound = cohort::bound(places.iter().copied(), wanted).unwrap();
        assert_eq!(
            places.iter().filter(|place| **place < bound).count(),
            wanted as usize
        );
    }
    assert_eq!(cohort::bound(places.iter().copied(), 5_000), None);
    // Another release, another line.
    let others: Vec<u32> = hosts.iter().map(|host| cohort::place(&id(8), host)).collect();
    let first = |places: &[u32]| (0..places.len()).min_by_key(|n| places[*n]);
    assert_ne!(first(&places), first(&others));
}

#[test]
fn places_are_spread_evenly() {
    let places = (0..20_000).map(|n| cohort::place(&id(9), &format!("01JBBBBBBBBBBBBBBBBBBB{n:04}")));
    let mut eighths = [0_i64; 8];
    places.for_each(|place| eighths[(place >> 29) as usize] += 1);
    // Chi-squared with 7 degrees of freedom: above 30 once in 10,000.
    let chi: f64 = eighths
        .iter()
        .map(|n| ((n - 2_500) * (n - 2_500)) as f64 / 2_500.0)
        .sum();
    assert!(chi < 30.0, "{eighths:?}");
}
