//! What was measured, as tables in Markdown, and as lines while it is measured.

use std::fmt::Write as _;

use crate::bound::{BOUNDS, Bound};
use crate::campaign::Results;
use crate::cell::{Cell, Spread};
use crate::interval::Share;
use crate::scenario::SCENARIOS;

/// This project's rule, and those that it is compared with.
const RULES: [&str; 4] = ["plfm", "bare-10", "fixed-threshold", "no-canary"];
/// Scenarios in which another rule is worth a look.
const COMPARED: [&str; 11] = [
    "good-1",
    "good-3",
    "outage",
    "outage-early",
    "liars",
    "fails-100",
    "fails-50",
    "fails-20",
    "fails-10",
    "fails-5",
    "fails-2",
];

/// What [`line`]'s columns are.
pub const HEADER: &str = "SCENARIO           RULE              RUNS  ROLLED BACK              STOPPED                  ACTED                    STOPPED IN WAVE 1        FAILED p50/p99/max   EXPOSED p50  STOP OR PAUSE p50/p99 s";

/// A cell in one line.
pub fn line(cell: &Cell) -> String {
    let exposed = cell
        .exposed
        .map_or("-".to_owned(), |spread| format!("{:.0}", spread.median));
    format!(
        "{:<18} {:<16} {:>5}  {:<24} {:<24} {:<24} {:<24} {:<20} {:<12} {}",
        cell.key.scenario,
        cell.key.rule,
        cell.rolled_back.of,
        cell.rolled_back.to_string(),
        cell.stopped.to_string(),
        cell.acted.to_string(),
        cell.stopped_in_wave_1.to_string(),
        three(cell.failed),
        exposed,
        two(cell.acted_after),
    )
}

/// All tables.
pub fn markdown(results: &Results) -> String {
    let mut text = format!("{}\n", bounds(results));
    for rule in ["plfm", "plfm-emergency"] {
        text.extend(outcomes(results, rule).map(|table| table + "\n"));
    }
    let taken_back = |cell: &Cell| percent(cell.rolled_back);
    let _ = writeln!(text, "{}", rules(results, "taken back", taken_back));
    let failed = |cell: &Cell| two(cell.failed);
    text + &rules(results, "failed boots, median / p99", failed)
}

/// The bounds, and what was measured of each.
pub fn bounds(results: &Results) -> String {
    let mut text = "| scenario | to be shown | runs | measured | shown |\n|---|---|---|---|---|\n".to_owned();
    for bound in BOUNDS {
        let found = results.find(bound.scenario, "plfm");
        let (runs, measured) = found.map_or((0, "-".to_owned()), |cell| {
            (cell.rolled_back.of, bound.measured(cell))
        });
        let is_shown = if holds(results, bound) { "yes" } else { "no" };
        let _ = writeln!(
            text,
            "| {} | {bound} | {runs} | {measured} | {is_shown} |",
            bound.scenario
        );
    }
    text
}

/// Whether what was measured shows a bound.
pub fn holds(results: &Results, bound: &Bound) -> bool {
    let found = results.find(bound.scenario, "plfm");
    found.is_some_and(|cell| bound.is_shown(cell))
}

/// What came of each scenario under a rule. None if none was run.
fn outcomes(results: &Results, rule: &str) -> Option<String> {
    let cells = SCENARIOS
        .iter()
        .filter_map(|scenario| results.find(scenario.name, rule));
    let mut cells = cells.peekable();
    cells.peek()?;
    let mut text = format!(
        "| {rule} | runs | taken back | stopped | stopped or paused | failed boots, median / p99 / most | minutes to stop or pause, median / p99 |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for cell in cells {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            cell.key.scenario,
            cell.rolled_back.of,
            percent(cell.rolled_back),
            percent(cell.stopped),
            percent(cell.acted),
            three(cell.failed),
            minutes(cell)
        );
    }
    Some(text)
}

fn minutes(cell: &Cell) -> String {
    // Where hardly any rollout was stopped, how long it took says nothing.
    let spread = cell.acted_after.filter(|_| cell.acted.rate() > 0.5);
    spread.map_or("-".to_owned(), |spread| {
        format!("{:.0} / {:.0}", spread.median / 60.0, spread.p99 / 60.0)
    })
}

fn rules(results: &Results, what: &str, value: impl Fn(&Cell) -> String) -> String {
    let mut text = format!("| {what} |");
    RULES.iter().for_each(|rule| text.push_str(&format!(" {rule} |")));
    text.push_str("\n|---|---|---|---|---|\n");
    for scenario in COMPARED {
        let values = RULES.map(|rule| results.find(scenario, rule).map_or("-".to_owned(), &value));
        let _ = writeln!(text, "| {scenario} | {} |", values.join(" | "));
    }
    text
}

fn percent(share: Share) -> String {
    // Two digits where they tell a thousandth from less.
    let [rate, low, high] = [share.rate(), share.low, share.high].map(|share| share * 100.0);
    let is_near_end = !(1.0..=99.0).contains(&rate);
    let digits = if is_near_end { 2 } else { 1 };
    format!("{rate:.digits$} % [{low:.digits$}, {high:.digits$}]")
}

fn three(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), |s| {
        format!("{:.0} / {:.0} / {:.0}", s.median, s.p99, s.max)
    })
}

fn two(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), |s| format!("{:.0} / {:.0}", s.median, s.p99))
}
