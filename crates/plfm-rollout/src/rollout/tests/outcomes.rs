use super::*;

#[test]
fn the_customers_own_failures_count_for_nothing() {
    let mut fleet = Fleet::canary(100, 1);
    fleet.boots(Side::Candidate, 1, 0..100, Ending::CustomerFailure);
    fleet.boots(Side::Candidate, 2, 0..100, Ending::Cancelled);
    assert_eq!(fleet.decide(10).health.sample, Tally::default());
    fleet.boots(Side::Candidate, 3, 0..100, Ending::Ready);
    assert_eq!(fleet.decide(10).health.sample.boots, 100.0);
}

#[test]
fn a_host_has_no_more_to_say_than_another_however_much_it_reports() {
    let mut fleet = Fleet::canary(100, 1);
    fleet
        .outcomes
        .record(Host(0), Side::Candidate, minute(1), Ending::Failed, 2);
    fleet.boots(Side::Candidate, 1, 1..100, Ending::Ready);
    let decision = fleet.decide(10);
    assert_eq!(
        (decision.health.sample.boots, decision.health.sample.failures),
        (100.0, 1.0)
    );
    assert_eq!(decision.event, None, "{}", decision.why);
}

#[test]
fn votes_come_anew_with_each_round() {
    let mut fleet = Fleet::canary(10, 1);
    for time in [1, 2, 29, 30, 31, 61] {
        fleet.boots(Side::Candidate, time, 0..10, Ending::Ready);
    }
    assert_eq!(fleet.decide(90).health.judged.candidate.boots, 30.0);
}

#[test]
fn failures_of_fewer_hosts_than_it_takes_bring_no_release_down() {
    let mut fleet = Fleet::canary(100, 1);
    fleet.outcomes = Outcomes::new(100, 50);
    fleet.boots(Side::Baseline, 1, 0..100, Ending::Ready);
    for host in 0..2 {
        fleet
            .outcomes
            .record(Host(host), Side::Candidate, minute(1), Ending::Failed, 50);
    }
    assert!(!matches!(
        fleet.decide(10).event,
        Some(Event::Condemn | Event::Pause(_))
    ));
    fleet
        .outcomes
        .record(Host(2), Side::Candidate, minute(1), Ending::Failed, 50);
    assert_eq!(fleet.decide(10).event, Some(Event::Condemn));
}

#[test]
fn a_broken_host_is_named_and_its_failures_do_not_count() {
    let mut fleet = Fleet::canary(1_000, 1);
    for time in 0..20 {
        fleet.boots(Side::Baseline, time, 0..999, Ending::Ready);
        fleet.boots(Side::Baseline, time, 999..1_000, Ending::Failed);
    }
    fleet.boots(Side::Candidate, 5, 0..999, Ending::Ready);
    fleet.boots(Side::Candidate, 5, 999..1_000, Ending::Failed);
    let health = fleet.decide(25).health;
    let apart: Vec<_> = health
        .apart
        .iter()
        .map(|apart| (apart.host, apart.fault))
        .collect();
    assert_eq!(apart, [(Host(999), Fault::Broken)]);
    assert_eq!((health.failing_hosts, health.sample.failures), (0, 0.0));
}

#[test]
fn hosts_on_which_only_the_release_fails_are_set_apart_while_they_are_few() {
    let apart = |failing: u32| {
        let mut fleet = Fleet::canary(1_000, 1);
        fleet.outcomes = Outcomes::new(1_000, 4);
        for time in 0..4 {
            fleet.boots(Side::Baseline, time, 0..1_000, Ending::Ready);
            fleet.boots(Side::Candidate, time, failing..1_000, Ending::Ready);
            fleet.boots(Side::Candidate, time, 0..failing, Ending::Failed);
        }
        let decision = fleet.decide(25);
        (
            decision.health.apart.len(),
            decision.event == Some(Event::Condemn),
        )
    };
    assert_eq!(apart(10), (10, false));
    // More than a hundredth: that is the release.
    assert_eq!(apart(200), (0, true));
}
