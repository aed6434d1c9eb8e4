use super::*;

fn why(fleet: &Fleet, minutes: i64) -> String {
    fleet.decide(minutes).why.to_string()
}

#[test]
fn a_rollout_says_what_it_waits_for() {
    let mut fleet = Fleet::canary(1_000, 1);
    fleet.boots(Side::Candidate, 1, 0..31, Ending::Ready);
    assert_eq!(
        why(&fleet, 10),
        "held in wave 2: 31 of 50 boots seen, 19 more needed; soak ends 16:30"
    );
    assert_eq!(
        why(&fleet, 30),
        "held in wave 2: 31 of 50 boots seen, 19 more needed"
    );
    fleet.boots(Side::Candidate, 2, 31..60, Ending::Ready);
    assert_eq!(
        why(&fleet, 10),
        "held in wave 2: 60 of 50 boots seen; soak ends 16:30"
    );
    assert_eq!(
        why(&fleet, 30),
        "wave 3 begins: 0 of 60 boots failed in the one before"
    );
    fleet.hosts.heard = 500;
    assert_eq!(
        why(&fleet, 30),
        "held in wave 2: 500 hosts were heard of lately, 900 needed to judge"
    );
}

#[test]
fn a_probe_says_what_it_waits_for() {
    let mut fleet = Fleet::new(1_000, Stage::Running(Running::Canary { wave: 0, step: 0 }));
    fleet.boots(Side::Candidate, 1, 0..5, Ending::Ready);
    assert_eq!(
        why(&fleet, 10),
        "wave 1 probes with 16 boots: 5 of 8 seen, 3 more needed"
    );
    fleet.boots(Side::Candidate, 1, 5..9, Ending::Ready);
    assert_eq!(why(&fleet, 10), "wave 1 widens: 0 of 9 boots failed");
    fleet.boots(Side::Candidate, 1, 9..12, Ending::Failed);
    assert_eq!(
        why(&fleet, 10),
        "wave 1 probes with 16 boots: 12 of 14 seen, 2 more needed"
    );
}

#[test]
fn a_wave_without_boots_pauses_when_it_took_its_longest_or_goes_on_in_an_emergency() {
    let mut fleet = Fleet::canary(1_000, 1);
    fleet.boots(Side::Candidate, 1, 0..31, Ending::Ready);
    let decision = fleet.decide(24 * 60 + 1);
    assert_eq!(decision.event, Some(Event::Pause(Share::Kept)));
    assert_eq!(decision.alert, Some(Alert::Paused));
    assert_eq!(
        decision.why.to_string(),
        "paused in wave 2: 31 of 50 boots seen after the longest wait"
    );
    fleet.plan = Plan::emergency();
    assert_eq!(fleet.decide(24 * 60 + 1).event, Some(Event::Advance));
}

#[test]
fn a_rollback_says_what_was_seen_and_where_it_goes() {
    let mut fleet = Fleet::canary(1_000, 1);
    fleet.boots(Side::Baseline, 1, 0..990, Ending::Ready);
    fleet.boots(Side::Baseline, 1, 990..1_000, Ending::Failed);
    fleet.boots(Side::Candidate, 1, 0..30, Ending::HandshakeTimeout);
    fleet.boots(Side::Candidate, 1, 30..60, Ending::Ready);
    let decision = fleet.decide(10);
    assert_eq!(decision.event, Some(Event::Condemn));
    assert_eq!(
        (decision.alert, decision.generation),
        (Some(Alert::RolledBack), 8)
    );
    assert_eq!(decision.directive.default, Some(id(3)));
    assert_eq!(
        decision.why.to_string(),
        "rolled back to 6.1.3-a+guestinit-1.0.0-a: its boots fail far more often: 30 of 60 boots failed (50.0 %) on 30 hosts, against 10 of 1000 boots failed (1.0 %) before it"
    );
}

#[test]
fn a_release_over_the_threshold_is_withdrawn_before_the_baseline_is_heard_and_taken_back_after() {
    let mut fleet = Fleet::canary(10_000, 1);
    for time in -6..0 {
        fleet.boots(Side::Baseline, time, 0..5_000, Ending::Ready);
    }
    fleet.boots(Side::Candidate, 0, 0..20, Ending::KernelPanic);
    let decision = fleet.decide(1);
    assert_eq!(decision.event, Some(Event::Pause(Share::Withdrawn)));
    assert!(!names(&decision.directive, &id(9)));
    assert_eq!(
        decision.why.to_string(),
        "withdrawn: 20 of 20 boots failed (100.0 %) on 20 hosts, against 0 of 0 boots failed (0.0 %) before it; waits for the old release's boots of the same minutes"
    );
    fleet.rollout.stage = decision.stage;
    fleet.boots(Side::Baseline, 0, 0..5_000, Ending::Ready);
    assert_eq!(fleet.decide(3).event, Some(Event::Condemn));
}

#[test]
fn an_outage_of_both_freezes_and_takes_nothing_back() {
    let mut fleet = Fleet::canary(10_000, 3);
    for time in 0..8 {
        fleet.boots(Side::Baseline, time, 0..5_000, Ending::Ready);
        fleet.boots(Side::Candidate, time, 0..5_000, Ending::Ready);
    }
    fleet.outcomes.begin_round(minute(8));
    for time in 8..10 {
        fleet.boots(Side::Baseline, time, 0..3_000, Ending::Ready);
        fleet.boots(Side::Baseline, time, 3_000..5_000, Ending::Failed);
    }
    fleet.boots(Side::Candidate, 8, 0..3_000, Ending::Ready);
    fleet.boots(Side::Candidate, 8, 3_000..5_000, Ending::Failed);
    let decision = fleet.decide(10);
    assert_eq!(decision.event, Some(Event::Pause(Share::Kept)));
    assert_eq!(decision.alert, Some(Alert::Incident));
    assert_eq!(
        decision.why.to_string(),
        "frozen: of the old release 4000 of 10000 boots failed (40.0 %) lately: an incident"
    );
}

#[test]
fn the_way_back_is_the_newest_that_is_good_present_and_compatible() {
    let mut fleet = Fleet::canary(1_000, 1);
    fleet.boots(Side::Baseline, 1, 0..1_000, Ending::Ready);
    fleet.boots(Side::Candidate, 1, 0..60, Ending::Failed);
    let back_to = |fleet: &Fleet| fleet.decide(10).back_to;
    assert_eq!(back_to(&fleet), Some(id(3)));
    fleet.stand(3, Standing::Blocked);
    assert_eq!(back_to(&fleet), Some(id(2)));
    fleet.known[1].hosts_with = 899;
    assert_eq!(back_to(&fleet), Some(id(1)));
    fleet.known[0].hosts_unable = 1;
    let decision = fleet.decide(10);
    assert_eq!(
        (decision.event, decision.back_to),
        (Some(Event::Pause(Share::Withdrawn)), None)
    );
    assert_eq!(decision.alert, Some(Alert::NoWayBack));
    assert!(!names(&decision.directive, &id(9)));
    assert!(
        decision
            .why
            .to_string()
            .ends_with("no earlier release is good, present and compatible")
    );
}

#[test]
fn a_release_that_was_taken_back_waits_for_a_person_and_any_other_for_the_cool_down() {
    let mut fleet = Fleet::new(1_000, Stage::Planned);
    assert_eq!(fleet.decide(0).event, Some(Event::Start));
    fleet.rolled_back_at = Some(at(-10));
    assert_eq!(fleet.decide(0).event, None);
    assert_eq!(why(&fleet, 0), "waits: cool-down after a rollback ends 16:50");
    assert_eq!(fleet.decide(50).event, Some(Event::Start));
    fleet.stand(9, Standing::TakenBack);
    assert_eq!(fleet.decide(50).event, None);
    assert!(why(&fleet, 50).ends_with("nobody cleared it since"));
}

#[test]
fn slow_boots_are_said_or_wait_for_a_person_as_the_plan_says() {
    let mut fleet = Fleet::canary(1_000, 1);
    fleet.boots(Side::Baseline, 1, 0..990, Ending::Ready);
    fleet.boots(Side::Baseline, 1, 990..1_000, Ending::ReadyLate);
    fleet.boots(Side::Candidate, 1, 0..60, Ending::Ready);
    fleet.boots(Side::Candidate, 1, 60..100, Ending::ReadyLate);
    let decision = fleet.decide(10);
    assert_eq!(decision.event, None);
    assert_eq!(
        decision.warnings[0].to_string(),
        "40 of 100 boots were slow, against 10 of 1000 before it"
    );
    fleet.plan.slow = Slow::Pause;
    assert_eq!(fleet.decide(10).event, Some(Event::Pause(Share::Kept)));
}

#[test]
fn from_wave_to_wave_to_the_end() {
    let mut fleet = Fleet::new(100_000, Stage::Planned);
    let mut time = 0;
    let mut said = Vec::new();
    while !fleet.rollout.stage.is_over() && time < 1_000 {
        let decision = fleet.decide(time);
        assert!(decision.generation >= 7);
        fleet.told = decision.directive.clone();
        if let Some(event) = decision.event {
            said.push(decision.stage.to_string());
            let waves = fleet.plan.waves_count();
            fleet.rollout = fleet
                .rollout
                .after(event, decision.back_to, waves, at(time))
                .unwrap();
            fleet.outcomes.begin_round(minute(time));
        }
        let first = u32::try_from(time).unwrap() * 50 % 100_000;
        fleet.boots(Side::Baseline, time, first..first + 50, Ending::Ready);
        if fleet.told.candidate_share(&id(9), 100_000) > 0.0 {
            fleet.boots(Side::Candidate, time, first..first + 50, Ending::Ready);
        }
        time += 1;
    }
    assert_eq!(
        said,
        [
            "distributing",
            "in wave 1",
            "in wave 1",
            "in wave 1",
            "in wave 1",
            "in wave 2",
            "in wave 3",
            "in wave 4",
            "in wave 5",
            "promoting",
            "complete"
        ]
    );
    assert_eq!(fleet.told.default, Some(id(9)));
}
