use plfm_api::control::{ChangeRollout, RolloutPlan, RolloutStage, StartRollout};
use plfm_rollout::rollout::{self, Ending, Host, Hosts, Known, Minute, Observed, Outcomes, Side, Stage};

use super::*;

const HOSTS: u32 = 40;

fn start(n: u8) -> Command {
    start_with(n, RolloutPlan::default())
}

fn start_with(n: u8, plan: RolloutPlan) -> Command {
    Command::StartRollout {
        id: format!("01K{n:023}"),
        request: Box::new(StartRollout {
            release: release(n).to_string(),
            plan,
            expected_generation: None,
            despite_unable_hosts: false,
            reason: None,
        }),
    }
}

fn change(change: RolloutChange) -> Command {
    Command::ChangeRollout {
        id: "current".to_owned(),
        change,
        request: ChangeRollout::default(),
    }
}

fn sight(state: &FleetState) -> Sight {
    let known = state.releases().keys().map(|release| Known {
        standing: state.standing(release),
        release: release.clone(),
        hosts_with: HOSTS,
        hosts_unable: 0,
    });
    Sight {
        hosts: Hosts {
            active: HOSTS,
            eligible: HOSTS,
            with_candidate: HOSTS,
            at_generation: HOSTS,
            heard: HOSTS,
        },
        known: known.collect(),
        places: (0..HOSTS).map(|host| host * 1_000).collect(),
    }
}

/// How the boots of the release on trial go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boots {
    None,
    Good,
    Bad,
}

fn outcomes(state: &FleetState, boots: Boots, now: Timestamp) -> Outcomes {
    let record = state.rollout_under_way().unwrap();
    let mut outcomes = Outcomes::new(HOSTS, record.votes);
    record
        .marks
        .iter()
        .for_each(|(at, marks)| outcomes.mark(*marks, *at));
    let minute = Minute(Minute::of(now).0 - 4);
    for host in 0..HOSTS {
        let candidate = match boots {
            Boots::None => continue,
            Boots::Good => Ending::Ready,
            Boots::Bad => Ending::Failed,
        };
        outcomes.record(Host(host), Side::Candidate, minute, candidate, 10);
        outcomes.record(Host(host), Side::Baseline, minute, Ending::Ready, 10);
    }
    outcomes
}

impl Fleet {
    /// What the engine makes of it, carried out.
    fn look(&mut self, boots: Boots, minutes: i64) -> Result<Decision, Refusal> {
        let now = at(minutes * 60);
        let command = decided(&self.state, boots, now);
        self.run_with(command, |context| context.now = now)
    }

    fn look_until(&mut self, boots: Boots, minutes: &mut i64, stage: RolloutStage) {
        for _ in 0..60 {
            if self.state.rollout_under_way().is_none() {
                break;
            }
            *minutes += 30;
            self.look(boots, *minutes).unwrap();
        }
        assert_eq!(self.state.rollouts().last().unwrap().shown().stage, stage);
    }

    fn ask(&mut self, command: Command) -> Result<Decision, Refusal> {
        self.ask_at(command, 0)
    }

    fn ask_at(&mut self, command: Command, minutes: i64) -> Result<Decision, Refusal> {
        let sight = sight(&self.state);
        self.run_with(command, |context| {
            context.sight = sight;
            context.now = context.now.max(at(minutes * 60));
        })
    }
}

fn decided(state: &FleetState, boots: Boots, now: Timestamp) -> Command {
    let record = state.rollout_under_way().unwrap();
    let sight = sight(state);
    let outcomes = outcomes(state, boots, now);
    let (told, defaults) = (record.orders.directive(), state.default_releases());
    let observed = Observed {
        rollout: &record.at,
        told: &told,
        generation: state.generation().0,
        hosts: sight.hosts,
        outcomes: &outcomes,
        releases: &sight.known,
        defaults: &defaults,
        rolled_back_at: state.rolled_back_at(),
    };
    let decision = rollout::decide(&record.rules, &observed, now);
    Command::CarryOut(Box::new(EngineDecision {
        rollout: record.id.clone(),
        position: state.position(),
        hosts_below: hosts_below(&decision, &sight.places),
        late_above: Some(70),
        health: plfm_api::control::RolloutHealth::default(),
        decision,
    }))
}

fn rolling(n: u8) -> Fleet {
    let mut fleet = Fleet::with_releases(4);
    (1..n).for_each(|n| drop(fleet.set_default(n).unwrap()));
    fleet.ask(start(n)).unwrap();
    fleet
}

#[test]
fn a_rollout_begins_with_hosts_that_fetch_and_nothing_that_boots() {
    let fleet = rolling(3);
    let target = fleet.state.target();
    assert_eq!(
        (target.default, target.canary, target.prefetch),
        (Some(release(2)), None, [release(3)].into())
    );
    let record = fleet.state.rollout_under_way().unwrap();
    assert_eq!(
        (record.since, fleet.state.generation()),
        (Generation(3), Generation(3))
    );
    assert_eq!(record.plan.waves.as_ref().unwrap().len(), 5);
    assert_eq!(fleet.replayed(), fleet.state);
}

#[test]
fn a_good_release_becomes_the_default_wave_by_wave() {
    let mut fleet = rolling(3);
    fleet.look(Boots::None, 1).unwrap();
    let canary = fleet.state.target().canary.unwrap();
    let cohort = canary.cohort.unwrap();
    assert_eq!(
        (canary.release, cohort.boots_each, cohort.since),
        (release(3), 1, Generation(3))
    );
    // 16 of the 40 hosts, each once.
    assert_eq!(cohort.hosts_below, Some(16_000));
    fleet.look_until(Boots::Good, &mut 10, RolloutStage::Complete);
    let target = fleet.state.target();
    assert_eq!(
        (
            target.default,
            target.previous,
            target.canary,
            target.prefetch.len()
        ),
        (Some(release(3)), Some(release(2)), None, 0)
    );
    let kinds: Vec<&str> = fleet.state.rollouts()[0]
        .history
        .iter()
        .map(|remark| remark.moment.kind.as_str())
        .collect();
    assert_eq!(kinds.first(), Some(&"started"));
    assert_eq!(kinds.iter().filter(|kind| **kind == "advanced").count(), 4);
    assert_eq!(kinds[kinds.len() - 2..], ["promoted", "settled"]);
    assert_eq!(fleet.replayed(), fleet.state);
}

#[test]
fn a_bad_release_is_taken_back_and_remembered_until_it_is_cleared() {
    let mut fleet = rolling(3);
    fleet.look(Boots::None, 1).unwrap();
    let mut minutes = 10;
    fleet.look_until(Boots::Bad, &mut minutes, RolloutStage::RolledBack);
    let target = fleet.state.target();
    assert_eq!((target.default, target.canary), (Some(release(2)), None));
    assert_eq!(
        fleet.state.known_good().map(|was| was.release.clone()),
        Some(release(1))
    );
    let record = &fleet.state.rollouts()[0];
    assert_eq!(record.shown().back_to, Some(release(2)));
    assert!(
        record
            .history
            .iter()
            .any(|remark| remark.alert == Some(RolloutAlert::RolledBack))
    );
    assert_eq!(code(fleet.set_default(3)), "release_rolled_back");
    assert_eq!(code(fleet.ask(start(3))), "release_rolled_back");
    assert_eq!(code(fleet.ask_at(start(4), minutes + 1)), "cool_down");
    fleet.run(unblock(3)).unwrap();
    let patient = RolloutPlan {
        cool_down_seconds: Some(0),
        ..RolloutPlan::default()
    };
    fleet.ask_at(start_with(3, patient), minutes + 1).unwrap();
    assert_eq!(fleet.replayed(), fleet.state);
}

#[test]
fn what_cannot_be_rolled_out_is_refused_and_says_why() {
    let mut fleet = Fleet::with_releases(4);
    assert_eq!(code(fleet.ask(start(1))), "no_default");
    fleet.set_default(1).unwrap();
    assert_eq!(code(fleet.ask(start(1))), "release_is_default");
    assert_eq!(code(fleet.ask(start(9))), "release_unknown");
    fleet.run(block(2)).unwrap();
    assert_eq!(code(fleet.ask(start(2))), "release_blocked");
    let wrong = RolloutPlan {
        margin: Some(9_000),
        ..RolloutPlan::default()
    };
    assert_eq!(code(fleet.ask(start_with(3, wrong))), "plan_threshold");
    fleet.ask(start(3)).unwrap();
    assert_eq!(code(fleet.ask(start(4))), "rollout_under_way");
    assert_eq!(code(fleet.set_default(4)), "rollout_under_way");
    let canary = Policy {
        canary: Some(Canary {
            release: release(4),
            weight: 1,
            cohort: None,
        }),
        ..Policy::default()
    };
    let set = Command::SetPolicy(SetPolicy {
        policy: canary,
        expected_generation: None,
        reason: None,
    });
    assert_eq!(code(fleet.run(set)), "rollout_under_way");
    fleet.ask(change(RolloutChange::Abort)).unwrap();
    assert_eq!(code(fleet.ask(change(RolloutChange::Pause))), "no_rollout");
}

#[test]
fn a_person_pauses_resumes_promotes_and_aborts() {
    let mut fleet = rolling(2);
    assert_eq!(code(fleet.ask(change(RolloutChange::Promote))), "rollout_stage");
    fleet.look(Boots::None, 1).unwrap();
    let shared = fleet.state.target().canary;
    assert!(fleet.ask(change(RolloutChange::Pause)).unwrap().facts.len() == 1);
    assert_eq!(fleet.state.target().canary, shared);
    let withdraw = Command::ChangeRollout {
        id: "current".to_owned(),
        change: RolloutChange::Pause,
        request: ChangeRollout {
            withdraw: true,
            ..ChangeRollout::default()
        },
    };
    fleet.ask(withdraw).unwrap();
    assert_eq!(fleet.state.target().canary, None);
    assert!(fleet.ask(change(RolloutChange::Pause)).unwrap().facts.is_empty());
    fleet.ask(change(RolloutChange::Resume)).unwrap();
    assert_eq!(fleet.state.target().canary, shared);
    fleet.ask(change(RolloutChange::Promote)).unwrap();
    let target = fleet.state.target();
    assert_eq!(
        (target.default, target.previous),
        (Some(release(2)), Some(release(1)))
    );
    assert_eq!(target.canary.unwrap().release, release(1));
    fleet.ask(change(RolloutChange::Abort)).unwrap();
    let target = fleet.state.target();
    // What was taken out again is no way back.
    assert_eq!(
        (target.default, target.previous, target.canary),
        (Some(release(1)), None, None)
    );
    assert_eq!(fleet.replayed(), fleet.state);
}

#[test]
fn an_operators_rollback_ends_the_rollout_and_remembers_the_release() {
    let mut fleet = rolling(2);
    fleet.look(Boots::None, 1).unwrap();
    let decision = fleet.ask(Command::Rollback(Rollback::default())).unwrap();
    assert_eq!(
        (decision.release, decision.previous_release),
        (Some(release(1)), Some(release(2)))
    );
    assert!(fleet.state.rollout_under_way().is_none());
    assert!(fleet.state.releases()[&release(2)].rolled_back.is_some());
    assert_eq!(fleet.state.target().default, Some(release(1)));
    assert_eq!(fleet.state.defaults().len(), 1);
    assert_eq!(fleet.replayed(), fleet.state);
}

#[test]
fn an_operator_who_takes_back_what_is_being_taken_back_does_not_go_two_steps() {
    let mut fleet = rolling(3);
    fleet.look(Boots::None, 1).unwrap();
    while fleet.state.rollout_under_way().unwrap().at.stage != Stage::RollingBack {
        fleet.look(Boots::Bad, 40).unwrap();
    }
    let again = fleet.ask_at(Command::Rollback(Rollback::default()), 41).unwrap();
    assert_eq!((again.facts.len(), again.release), (0, Some(release(2))));
    let further = Command::Rollback(Rollback {
        to: Some(release(1).to_string()),
        ..Rollback::default()
    });
    fleet.ask_at(further, 41).unwrap();
    let last = fleet.state.rollouts().last().unwrap();
    assert_eq!(last.shown().stage, RolloutStage::RolledBack);
    assert_eq!(fleet.state.target().default, Some(release(1)));
    assert_eq!(fleet.replayed(), fleet.state);
}

#[test]
fn a_blocked_candidate_is_told_to_nobody_and_the_rollout_waits() {
    let mut fleet = rolling(2);
    fleet.look(Boots::None, 1).unwrap();
    fleet.run(block(2)).unwrap();
    assert_eq!(fleet.state.target().canary, None);
    fleet.look(Boots::None, 2).unwrap();
    let shown = fleet.state.rollout_under_way().unwrap().shown();
    assert_eq!(shown.paused, Some(plfm_api::control::PausedShare::Withdrawn));
    assert_eq!(
        code(fleet.ask(change(RolloutChange::Resume))),
        "release_not_bootable"
    );
    fleet.run(unblock(2)).unwrap();
    fleet.ask(change(RolloutChange::Resume)).unwrap();
    assert!(fleet.state.target().canary.is_some());
}

#[test]
fn of_two_decisions_from_the_same_place_one_is_carried_out() {
    let mut fleet = rolling(2);
    let decided = decided(&fleet.state, Boots::None, at(60));
    fleet.run(decided.clone()).unwrap();
    assert_eq!(code(fleet.run(decided)), "decision_outdated");
}

fn any_rollout_command() -> impl Strategy<Value = Option<Command>> {
    let changes = prop::sample::select(vec![
        RolloutChange::Pause,
        RolloutChange::Resume,
        RolloutChange::Abort,
        RolloutChange::Promote,
    ]);
    let quick = RolloutPlan {
        cool_down_seconds: Some(0),
        probe: Some(vec![16]),
        ..RolloutPlan::default()
    };
    prop_oneof![
        2 => any_command().prop_map(Some),
        2 => (1..6_u8).prop_map(move |n| Some(start_with(n, quick.clone()))),
        2 => (changes, any::<bool>()).prop_map(|(change, withdraw)| Some(Command::ChangeRollout {
            id: "current".to_owned(),
            change,
            request: ChangeRollout { withdraw, ..ChangeRollout::default() },
        })),
        // The engine's turn.
        5 => Just(None),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_no_host_is_told_what_must_not_boot(
        commands in prop::collection::vec((any_rollout_command(), prop::sample::select(vec![Boots::None, Boots::Good, Boots::Good, Boots::Bad])), 0..60)
    ) {
        let mut fleet = Fleet::with_releases(4);
        fleet.set_default(1).unwrap();
        let mut minutes = 0;
        for (command, boots) in commands {
            let before = fleet.state.clone();
            minutes += 30;
            let command = match (command, before.rollout_under_way()) {
                (Some(command), _) => command,
                (None, Some(_)) => decided(&before, boots, at(minutes * 60)),
                (None, None) => continue,
            };
            let sight = sight(&before);
            let result = fleet.run_with(command, |context| {
                context.now = at(minutes * 60);
                context.sight = sight;
            });
            if result.is_err() {
                prop_assert_eq!(&fleet.state, &before);
            }
            let (target, then) = (fleet.state.target(), before.target());
            prop_assert!(target.generation >= then.generation);
            // What hosts are told is something else only with another generation.
            if target.generation == then.generation {
                prop_assert_eq!(&target, &then);
            }
            let named = target.default.iter().chain(&target.previous).chain(target.prefetch.iter())
                .chain(target.pins.values()).chain(target.canary.as_ref().map(|canary| &canary.release));
            for release in named {
                prop_assert!(!target.blocked.contains(release), "{release} is blocked and in {target:?}");
            }
            let under_way = fleet.state.rollouts().iter().filter(|rollout| !rollout.is_over()).count();
            prop_assert!(under_way <= 1);
            if let Some(record) = fleet.state.rollout_under_way() {
                let is_bad = fleet.state.standing(&record.at.candidate) == rollout::Standing::TakenBack;
                prop_assert!(!is_bad || record.at.stage == Stage::RollingBack, "{:?}", record.at);
            }
        }
        prop_assert_eq!(fleet.replayed(), fleet.state);
    }
}
