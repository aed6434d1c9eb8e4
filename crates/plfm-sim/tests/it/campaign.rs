//! What is kept of a campaign, and what is made of it.

use plfm_sim::bound::BOUNDS;
use plfm_sim::campaign::{Campaign, Results, runs};
use plfm_sim::cell::{Cell, Trial};
use plfm_sim::fleet::Fleet;
use plfm_sim::judge::Rule;
use plfm_sim::rival::RivalRule;
use plfm_sim::scenario::scenario;
use plfm_sim::table;

fn cell(runs: u64, jobs: usize) -> Cell {
    let trial = Trial {
        fleet: &Fleet::new(100_000),
        scenario: scenario("fails-100").unwrap(),
        rule: &Rule::usual(),
        seed: 3,
    };
    trial.cell(runs, jobs, || true)
}

#[test]
fn how_many_run_at_once_changes_nothing() {
    assert_eq!(cell(7, 1), cell(7, 3));
}

#[test]
fn what_was_run_is_not_run_again_and_fewer_runs_are_replaced_by_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.json");
    let mut campaign = Campaign::open(Some(&path)).unwrap();
    campaign.keep(cell(2, 1)).unwrap();
    campaign.keep(cell(3, 1)).unwrap();
    let again = Campaign::open(Some(&path)).unwrap();
    let key = cell(1, 1).key;
    assert_eq!(again.done(&key, 3), Some(&cell(3, 1)));
    assert_eq!(again.done(&key, 4), None);
    assert_eq!(Results::load(&path).unwrap().cells.len(), 1);
}

#[test]
fn cells_of_two_programs_are_not_put_together() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.json");
    std::fs::write(&path, r#"{"program":"another","cells":[]}"#).unwrap();
    let refused = Campaign::open(Some(&path)).unwrap_err().to_string();
    assert!(refused.contains("another build"), "{refused}");
}

#[test]
fn more_is_run_where_a_small_share_is_to_be_shown() {
    let of = |name: &str, rule: &Rule| runs(scenario(name).unwrap(), rule);
    assert!(of("good-1", &Rule::usual()) > of("fails-5", &Rule::usual()));
    assert_eq!(of("good-1", &Rule::Rival(RivalRule::Bare)), 2_000);
}

#[test]
fn a_bound_is_shown_by_its_intervals_end_and_by_nothing_that_was_not_run() {
    let bound = BOUNDS.iter().find(|bound| bound.scenario == "fails-20").unwrap();
    let mut cell = cell(5, 1);
    assert!(!bound.is_shown(&cell), "five of five may be chance");
    cell.key.scenario = "fails-20".to_owned();
    cell.rolled_back = plfm_sim::interval::Share::new(4_000, 4_000);
    let results = Results {
        program: String::new(),
        cells: vec![cell],
    };
    assert!(table::holds(&results, bound));
    assert_eq!(table::bounds(&results).matches("| yes |").count(), 1);
    assert!(table::markdown(&results).contains("| fails-20 | 4000 | 100.00 % [99.91, 100.00] |"));
}
