use super::*;

const WAVES: u8 = 3;

fn running() -> Vec<Running> {
    let canaries = (0..WAVES).flat_map(|wave| (0..3).map(move |step| Running::Canary { wave, step }));
    let others = [Running::Distributing, Running::Promoting];
    canaries.chain(others).collect()
}

fn stages() -> Vec<Stage> {
    let paused = |at| [Share::Kept, Share::Withdrawn].map(|share| Stage::Paused { at, share });
    let over = [Stage::RolledBack, Stage::Complete, Stage::Aborted];
    let mut stages = vec![Stage::Planned, Stage::RollingBack];
    stages.extend(over);
    stages.extend(running().into_iter().map(Stage::Running));
    stages.extend(running().into_iter().flat_map(paused));
    stages
}

const EVENTS: [Event; 11] = [
    Event::Start,
    Event::Distributed,
    Event::Widen,
    Event::Advance,
    Event::Promote,
    Event::Settled,
    Event::Pause(Share::Kept),
    Event::Pause(Share::Withdrawn),
    Event::Resume,
    Event::Condemn,
    Event::Abort,
];

/// The table, written once more and the other way round: for each event, where it leads from where.
fn expected(stage: Stage, event: Event) -> Option<Stage> {
    use Running::{Canary, Distributing, Promoting};
    use Stage::{Paused, Planned, RollingBack};
    let booted = |at| at != Distributing;
    match (event, stage) {
        (Event::Start, Planned) => Some(Stage::Running(Distributing)),
        (Event::Distributed, Stage::Running(Distributing)) => {
            Some(Stage::Running(Canary { wave: 0, step: 0 }))
        }
        (Event::Widen, Stage::Running(Canary { wave, step })) => {
            Some(Stage::Running(Canary { wave, step: step + 1 }))
        }
        (Event::Advance, Stage::Running(Canary { wave, .. })) if wave + 1 < WAVES => {
            Some(Stage::Running(Canary {
                wave: wave + 1,
                step: 0,
            }))
        }
        (Event::Promote, Stage::Running(Canary { .. })) => Some(Stage::Running(Promoting)),
        (Event::Settled, Stage::Running(Promoting)) => Some(Stage::Complete),
        (Event::Settled, RollingBack) => Some(Stage::RolledBack),
        (Event::Pause(share), Stage::Running(at)) => Some(Paused { at, share }),
        (
            Event::Pause(share),
            Paused {
                at,
                share: Share::Kept,
            },
        ) => Some(Paused { at, share }),
        (Event::Resume, Paused { at, .. }) => Some(Stage::Running(at)),
        (Event::Condemn, Stage::Running(at) | Paused { at, .. }) if booted(at) => Some(RollingBack),
        (Event::Abort, Planned | Stage::Running(_) | Paused { .. }) => Some(Stage::Aborted),
        _ => None,
    }
}

#[test]
fn every_event_at_every_stage_leads_where_the_table_says_or_is_an_error() {
    for stage in stages() {
        for event in EVENTS {
            let result = stage.on(event, WAVES);
            assert_eq!(result.clone().ok(), expected(stage, event), "{stage:?} {event:?}");
            if let Err(error) = result {
                assert_eq!((error.stage, error.event), (stage, event));
                assert_eq!(
                    error.to_string(),
                    format!("a rollout that is {stage} cannot {event}")
                );
            }
        }
    }
}

#[test]
fn nothing_happens_to_what_is_over() {
    for stage in stages().into_iter().filter(|stage| stage.is_over()) {
        assert!(EVENTS.iter().all(|event| stage.on(*event, WAVES).is_err()));
    }
}

#[test]
fn a_step_or_a_wave_that_cannot_be_counted_is_an_error() {
    let last = Stage::Running(Running::Canary {
        wave: u8::MAX,
        step: u8::MAX,
    });
    assert!(last.on(Event::Widen, u8::MAX).is_err());
    assert!(last.on(Event::Advance, u8::MAX).is_err());
}

#[test]
fn what_was_let_go_on_is_judged_anew() {
    let fleet = Fleet::canary(100, 1);
    let paused = fleet
        .rollout
        .after(Event::Pause(Share::Kept), None, 5, at(40))
        .unwrap();
    assert_eq!(paused.judged_since, at(0));
    let resumed = paused.after(Event::Resume, None, 5, at(50)).unwrap();
    assert_eq!((resumed.judged_since, resumed.wave_since), (at(50), at(50)));
    assert_eq!(resumed.stage, fleet.rollout.stage);
}
