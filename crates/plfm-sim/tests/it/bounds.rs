//! Each bound's direction, in few runs: enough to see a rule that went wrong, not how right it is. That is measured with
//! `plfm-sim all` and `plfm-sim check`.

use plfm_rollout::rollout::Plan;
use plfm_sim::bound::BOUNDS;
use plfm_sim::cell::{Cell, Trial};
use plfm_sim::fleet::Fleet;
use plfm_sim::judge::Rule;
use plfm_sim::scenario::scenario;

fn cell_of(name: &str, rule: &Rule, hosts: u32, runs: u64) -> Cell {
    let trial = Trial {
        fleet: &Fleet::new(hosts),
        scenario: scenario(name).unwrap(),
        rule,
        seed: 11,
    };
    trial.cell(runs, 2, || true)
}

fn cell(name: &str, hosts: u32, runs: u64) -> Cell {
    let cell = cell_of(name, &Rule::usual(), hosts, runs);
    assert_eq!(cell.rolled_back.of, runs);
    cell
}

#[test]
fn every_bound_is_of_a_scenario_that_there_is() {
    for bound in BOUNDS {
        assert!(scenario(bound.scenario).is_some(), "{}", bound.scenario);
    }
}

#[test]
fn good_releases_go_through() {
    for (name, runs) in [("good-1", 6), ("good-3", 3)] {
        let cell = cell(name, 20_000, runs);
        assert_eq!((cell.rolled_back.have, cell.completed.have), (0, runs), "{name}");
    }
}

#[test]
fn what_fails_always_fails_fewer_than_twenty_boots() {
    for name in ["fails-100", "hangs-100"] {
        let cell = cell(name, 100_000, 50);
        assert_eq!(cell.rolled_back.have, 50, "{name}");
        assert!(cell.failed.unwrap().max < 20.0, "{name}: {:?}", cell.failed);
    }
}

#[test]
fn what_fails_half_the_time_stops_in_its_first_wave_and_is_taken_back() {
    let cell = cell("fails-50", 100_000, 50);
    assert_eq!((cell.stopped_in_wave_1.have, cell.rolled_back.have), (50, 50));
}

#[test]
fn what_fails_every_fifth_time_is_taken_back() {
    assert_eq!(cell("fails-20", 100_000, 30).rolled_back.have, 30);
}

#[test]
fn an_outage_of_everything_pauses_and_takes_nothing_back() {
    let cell = cell("outage-early", 20_000, 3);
    assert_eq!((cell.rolled_back.have, cell.acted.have), (0, 3));
}

#[test]
fn liars_within_the_margin_force_a_pause_and_no_rollback() {
    let within = cell("liars", 100_000, 4);
    assert_eq!((within.rolled_back.have, within.acted.have), (0, 4));
    let trusting = Rule::Project {
        name: "trusting",
        plan: Plan {
            margin: 0,
            ..Plan::default()
        },
    };
    assert_eq!(cell_of("liars", &trusting, 100_000, 4).rolled_back.have, 4);
}
