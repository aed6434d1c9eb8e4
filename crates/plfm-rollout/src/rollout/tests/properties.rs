use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const HOSTS: u32 = 40;

/// One host's boots of one release in one minute.
type Told = (u32, Side, i64, Ending, u32);

fn told() -> impl Strategy<Value = Vec<Told>> {
    let side = select(vec![Side::Candidate, Side::Baseline]);
    let ending = select(vec![
        Ending::Ready,
        Ending::Ready,
        Ending::ReadyLate,
        Ending::Failed,
        Ending::HandshakeTimeout,
        Ending::KernelPanic,
        Ending::CustomerFailure,
    ]);
    prop::collection::vec((0..HOSTS, side, -10..40_i64, ending, 1..5_u32), 0..400)
}

fn stage() -> impl Strategy<Value = Stage> {
    let running = prop_oneof![
        Just(Running::Distributing),
        (0..5_u8, 0..5_u8).prop_map(|(wave, step)| Running::Canary { wave, step }),
        Just(Running::Promoting),
    ];
    let share = select(vec![Share::Kept, Share::Withdrawn]);
    prop_oneof![
        6 => running.clone().prop_map(Stage::Running),
        2 => (running, share).prop_map(|(at, share)| Stage::Paused { at, share }),
        1 => select(vec![Stage::Planned, Stage::RollingBack, Stage::RolledBack, Stage::Complete, Stage::Aborted]),
    ]
}

fn standings() -> impl Strategy<Value = Vec<Standing>> {
    let bad = vec![Standing::Blocked, Standing::Gone, Standing::TakenBack];
    prop::collection::vec(prop_oneof![3 => Just(Standing::Good), 1 => select(bad)], 4)
}

fn fleet() -> impl Strategy<Value = Fleet> {
    let hosts = (0..=HOSTS, 0..=HOSTS, 0..=HOSTS);
    (stage(), standings(), told(), hosts, 1..20_u32, any::<bool>()).prop_map(
        |(stage, standings, told, hosts, votes, quick)| {
            let mut fleet = Fleet::new(HOSTS, stage);
            fleet.outcomes = Outcomes::new(HOSTS, votes);
            fleet.outcomes.begin_round(minute(0));
            for (host, side, time, ending, count) in told {
                fleet
                    .outcomes
                    .record(Host(host), side, minute(time), ending, count);
            }
            for (known, standing) in fleet.known.iter_mut().zip(standings) {
                known.standing = standing;
            }
            fleet.rollout.back_to = Some(id(2));
            (
                fleet.hosts.with_candidate,
                fleet.hosts.at_generation,
                fleet.hosts.heard,
            ) = hosts;
            if quick {
                fleet.plan = Plan::emergency();
            }
            fleet.told = Directive::of(&fleet.plan, &fleet.observed(), stage, Some(&id(2)));
            fleet
        },
    )
}

fn share(directive: &Directive) -> f64 {
    directive.candidate_share(&id(9), HOSTS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_same_facts_give_the_same_decision(fleet in fleet(), time in 0..90_i64) {
        prop_assert_eq!(fleet.decide(time), fleet.decide(time));
    }

    #[test]
    fn what_was_reckoned_before_changes_no_decision(before in fleet(), fleet in fleet(), times in prop::collection::vec(0..90_i64, 1..6)) {
        let mut reckoned = Reckoned::default();
        decide_again(&mut reckoned, &before.plan, &before.observed(), at(60));
        for time in times {
            let again = decide_again(&mut reckoned, &fleet.plan, &fleet.observed(), at(time));
            prop_assert_eq!(again, fleet.decide(time));
        }
    }

    #[test]
    fn a_host_with_fewer_failures_than_the_least_does_not_stand_out(
        own in (0..40_u32, prop_oneof![Just(0_u32), 0..400_u32]),
        others in (0..5_000_u32, 0..50_000_u32),
        counted in 0.0..1.0_f64,
        hosts in 1..100_000_u32,
    ) {
        let tally = |failures: u32, more: u32| Tally {
            boots: f64::from(failures + more),
            failures: f64::from(failures),
            ..Tally::default()
        };
        let (own, bound) = (tally(own.0, own.1), (1_000.0 * f64::from(hosts)).ln());
        let votes = Tally { boots: own.failures * counted, failures: own.failures * counted, ..Tally::default() };
        let all = tally(others.0, others.1).plus(votes);
        let rate = all.without_failures_of(votes).failure_rate().max(0.005);
        if (own.failures as u64) < apart::failures_least(all, bound) {
            prop_assert!(apart::tail_exponent(own.failures, own.boots, rate) <= bound);
        }
    }

    #[test]
    fn a_release_that_is_blocked_gone_or_taken_back_is_never_chosen(fleet in fleet(), time in 0..90_i64) {
        let decision = fleet.decide(time);
        for known in fleet.known.iter().filter(|known| known.standing != Standing::Good) {
            prop_assert!(!names(&decision.directive, &known.release), "{:?}", decision);
            prop_assert_ne!(decision.directive.prefetch.as_ref(), Some(&known.release));
        }
        if decision.event == Some(Event::Condemn) {
            let back_to = fleet.known.iter().find(|known| Some(&known.release) == decision.back_to.as_ref());
            prop_assert_eq!(back_to.map(|known| known.standing), Some(Standing::Good));
            prop_assert_ne!(decision.back_to, Some(id(9)));
        }
    }

    #[test]
    fn the_share_never_rises_while_anything_speaks_against_the_release(fleet in fleet(), time in 0..90_i64) {
        let decision = fleet.decide(time);
        let verdict = decision.health.verdict(&fleet.plan, HOSTS);
        let is_probing = match fleet.rollout.stage {
            Stage::Running(at) => progress::is_probing(&fleet.plan, at),
            _ => false,
        };
        let is_unhealthy = match verdict {
            Verdict::Bad(_) | Verdict::Over | Verdict::Incident => true,
            Verdict::Worse | Verdict::Above => !is_probing,
            Verdict::Slow | Verdict::Fine => false,
        };
        let judged = matches!(fleet.rollout.stage, Stage::Running(Running::Canary { .. } | Running::Promoting) | Stage::Paused { .. });
        if is_unhealthy && judged {
            let (before, after) = (share(&fleet.told), share(&decision.directive));
            prop_assert!(after <= before, "{verdict:?}: {before} to {after}: {}", decision.why);
        }
    }

    #[test]
    fn generations_only_rise_and_do_so_with_every_change(fleet in fleet(), time in 0..90_i64) {
        let decision = fleet.decide(time);
        let changed = decision.directive != fleet.told;
        prop_assert_eq!(decision.generation, 7 + u64::from(changed));
    }

    #[test]
    fn what_happens_may_happen_where_it_does(fleet in fleet(), time in 0..90_i64) {
        let decision = fleet.decide(time);
        match decision.event {
            Some(event) => prop_assert_eq!(fleet.rollout.stage.on(event, 5), Ok(decision.stage)),
            None => prop_assert_eq!(fleet.rollout.stage, decision.stage),
        }
        prop_assert!(!fleet.rollout.stage.is_over() || decision.event.is_none());
    }

    #[test]
    fn whose_report_came_first_does_not_matter(reports in told(), order in any::<u64>()) {
        let told = |reports: &[Told]| {
            let mut fleet = Fleet::canary(HOSTS, 1);
            for (host, side, time, ending, count) in reports {
                fleet.outcomes.record(Host(*host), *side, minute(*time), *ending, *count);
            }
            let health = fleet.decide(60).health;
            (health.verdict(&fleet.plan, HOSTS), health.failing_hosts, (health.sample.boots * 1e6).round())
        };
        let mut shuffled = reports.clone();
        // Among hosts only: each host's own reports come in their order.
        shuffled.sort_by_key(|(host, ..)| u64::from(*host).wrapping_mul(order | 1));
        prop_assert_eq!(told(&reports), told(&shuffled));
    }

    /// Without any of the code that judges: enough boots, from enough hosts, too many of which failed, while all was well
    /// with the baseline in the same minutes.
    #[test]
    fn no_release_over_its_threshold_is_anybodys_target(
        fleet in fleet(),
        wave in 0..5_u8,
        step in 0..4_u8,
        at_stage in 0..4_u8,
        failed in prop_oneof![
            3 => prop::collection::vec(0..13_u32, 4..20),
            1 => prop::collection::vec(0..=50_u32, 4..20),
        ],
        threshold in 100..3_000_u16,
        time in 45..90_i64,
    ) {
        let mut fleet = fleet;
        let hosts = 1_000;
        fleet.hosts = Hosts { active: hosts, eligible: hosts, ..fleet.hosts };
        fleet.plan.threshold = threshold;
        fleet.plan.sample_enough = 200;
        let canary = Running::Canary { wave, step };
        fleet.rollout.stage = match at_stage {
            0 => Stage::Running(Running::Promoting),
            1 => Stage::Paused { at: canary, share: Share::Kept },
            2 => Stage::Paused { at: canary, share: Share::Withdrawn },
            _ => Stage::Running(canary),
        };
        fleet.outcomes = Outcomes::new(hosts, 1);
        fleet.outcomes.begin_round(minute(0));
        let (mut first, mut failures) = (0, 0);
        for (time, failed) in failed.into_iter().enumerate() {
            let time = i64::try_from(time).unwrap();
            fleet.boots(Side::Baseline, time, 0..1_000, Ending::Ready);
            fleet.boots(Side::Candidate, time, first..first + failed, Ending::Failed);
            fleet.boots(Side::Candidate, time, first + failed..first + 50, Ending::Ready);
            first += 50;
            failures += failed;
        }
        let is_over = first >= 200 && failures * 10_000 > first * u32::from(threshold) && failures >= 3;
        prop_assume!(is_over);
        let decision = fleet.decide(time);
        prop_assert!(!names(&decision.directive, &id(9)), "{failures} of {first}: {}", decision.why);
    }
}
