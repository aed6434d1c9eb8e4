//! Plots of what was measured, as SVG without scripts or fonts of their own.

mod chart;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use chart::{Axis, Chart, Point};

use crate::campaign::Results;
use crate::cell::{Cell, Spread};
use crate::interval::Share;

/// The rules, in the order of their colours.
const RULES: [&str; 4] = ["plfm", "bare-10", "fixed-threshold", "no-canary"];
/// Where a release does not deserve to be taken back.
const GOOD: [&str; 5] = ["good-1", "good-3", "outage", "outage-early", "liars"];
/// Where it does.
const BAD: [&str; 6] = [
    "fails-100",
    "fails-50",
    "fails-20",
    "fails-10",
    "fails-5",
    "fails-2",
];

/// Draws what was measured.
///
/// # Errors
/// A file cannot be written.
pub fn draw(results: &Results, out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let charts = [
        ("rollouts-false-rollbacks.svg", false_rollbacks(results)),
        ("rollouts-missed.svg", missed(results)),
        ("rollouts-failures.svg", failures(results)),
        ("rollouts-time-to-stop.svg", time_to_stop(results)),
    ];
    for (name, chart) in charts {
        let path = out.join(name);
        fs::write(&path, chart.render()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Points for each rule at each scenario, where it was measured.
fn points(
    results: &Results,
    scenarios: &[&'static str],
    point: impl Fn(&Cell) -> Option<(f64, f64, f64)>,
) -> Vec<Point> {
    let mut points = Vec::new();
    for (series, rule) in RULES.iter().enumerate() {
        for (group, scenario) in scenarios.iter().enumerate() {
            let found = results.find(scenario, rule).and_then(&point);
            points.extend(found.map(|(low, at, high)| Point {
                series,
                group,
                low,
                at,
                high,
            }));
        }
    }
    points
}

/// In percent, with the interval.
fn percent(share: Share) -> (f64, f64, f64) {
    (share.low * 100.0, share.rate() * 100.0, share.high * 100.0)
}

/// The median, with a line to what all but one of a hundred runs stay below.
fn to_p99(spread: Spread, unit: f64) -> (f64, f64, f64) {
    (spread.median / unit, spread.median / unit, spread.p99 / unit)
}

fn false_rollbacks(results: &Results) -> Chart {
    Chart {
        title: "Good releases taken back",
        unit: "% of rollouts (lines: 95 % intervals)",
        groups: GOOD.to_vec(),
        series: RULES.to_vec(),
        axis: Axis::Linear { max: 100.0 },
        points: points(results, &GOOD, |cell| Some(percent(cell.rolled_back))),
    }
}

fn missed(results: &Results) -> Chart {
    let missed = |cell: &Cell| Some(percent(cell.completed));
    Chart {
        title: "Bad releases that went through",
        unit: "% of rollouts neither taken back nor paused (lines: 95 % intervals)",
        groups: BAD.to_vec(),
        series: RULES.to_vec(),
        axis: Axis::Linear { max: 100.0 },
        points: points(results, &BAD, missed),
    }
}

fn failures(results: &Results) -> Chart {
    Chart {
        title: "Boots that failed before the release was stopped, 100,000 hosts",
        unit: "boots, median (lines: to the 99th percentile)",
        groups: BAD.to_vec(),
        series: RULES.to_vec(),
        axis: Axis::Logarithmic { min: 1.0, max: 1e6 },
        points: points(results, &BAD, |cell| Some(to_p99(cell.failed?, 1.0))),
    }
}

fn time_to_stop(results: &Results) -> Chart {
    // Where most rollouts went through, how long the others took says nothing.
    let most = |cell: &Cell| cell.acted.rate() > 0.5;
    let minutes = |cell: &Cell| Some(to_p99(cell.acted_after.filter(|_| most(cell))?, 60.0));
    Chart {
        title: "From the first boot to the stop or pause",
        unit: "minutes, median (lines: to the 99th percentile)",
        groups: BAD.to_vec(),
        series: RULES.to_vec(),
        axis: Axis::Logarithmic {
            min: 0.1,
            max: 1_000.0,
        },
        points: points(results, &BAD, minutes),
    }
}
