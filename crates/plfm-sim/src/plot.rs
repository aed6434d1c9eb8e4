//! Plots of what was measured, as SVG without scripts or fonts of their own.

mod chart;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use chart::{Axis, Chart, Point};

/// The rules, in the order of their colours.
const RULES: [&str; 4] = ["plfm", "bare-10", "fixed-threshold", "no-canary"];
/// Where a release does not deserve to be taken back.
const GOOD: [&str; 4] = ["good-1", "good-3", "outage", "liars"];
/// Where it does.
const BAD: [&str; 6] = [
    "fails-100",
    "fails-50",
    "fails-20",
    "fails-10",
    "fails-5",
    "fails-2",
];

/// Draws what `run` or `all` wrote: one file, or all `.json` files of a directory.
///
/// # Errors
/// A file cannot be read or written.
pub fn draw(json: &Path, out: &Path) -> Result<()> {
    let cells = load(json)?;
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let charts = [
        ("rollouts-false-rollbacks.svg", false_rollbacks(&cells)),
        ("rollouts-missed.svg", missed(&cells)),
        ("rollouts-failures.svg", failures(&cells)),
        ("rollouts-time-to-stop.svg", time_to_stop(&cells)),
    ];
    for (name, chart) in charts {
        let path = out.join(name);
        fs::write(&path, chart.render()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn load(json: &Path) -> Result<Vec<Value>> {
    let mut files = vec![json.to_owned()];
    if json.is_dir() {
        let entries = fs::read_dir(json).with_context(|| format!("reading {}", json.display()))?;
        files = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
    }
    let mut cells = Vec::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let some: Vec<Value> =
            serde_json::from_slice(&bytes).with_context(|| format!("understanding {}", file.display()))?;
        cells.extend(some);
    }
    Ok(cells)
}

/// Points for each rule at each scenario, where it was measured.
fn points(
    cells: &[Value],
    scenarios: &[&'static str],
    point: impl Fn(&Value) -> Option<(f64, f64, f64)>,
) -> Vec<Point> {
    let mut points = Vec::new();
    for (series, rule) in RULES.iter().enumerate() {
        for (group, scenario) in scenarios.iter().enumerate() {
            let is_this = |cell: &&Value| {
                cell.get("scenario") == Some(&Value::from(*scenario))
                    && cell.get("rule") == Some(&Value::from(*rule))
            };
            let found = cells.iter().find(is_this).and_then(&point);
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

fn number(cell: &Value, path: &str) -> Option<f64> {
    cell.pointer(path)?.as_f64()
}

/// A share in percent with its interval.
fn share(cell: &Value, name: &str) -> Option<(f64, f64, f64)> {
    let of = |member: &str| number(cell, &format!("/{name}/{member}"));
    Some((
        of("low")? * 100.0,
        of("have")? / of("of")? * 100.0,
        of("high")? * 100.0,
    ))
}

/// The median, with a line to what all but one of a hundred runs stay below.
fn spread(cell: &Value, name: &str) -> Option<(f64, f64, f64)> {
    let of = |member: &str| number(cell, &format!("/{name}/{member}"));
    Some((of("median")?, of("median")?, of("p99")?))
}

fn false_rollbacks(cells: &[Value]) -> Chart {
    Chart {
        title: "Good releases taken back",
        unit: "% of rollouts (lines: 95 % intervals)",
        groups: GOOD.to_vec(),
        series: RULES.to_vec(),
        axis: Axis::Linear { max: 100.0 },
        points: points(cells, &GOOD, |cell| share(cell, "rolled_back")),
    }
}

fn missed(cells: &[Value]) -> Chart {
    let missed =
        |cell: &Value| share(cell, "acted").map(|(low, at, high)| (100.0 - high, 100.0 - at, 100.0 - low));
    Chart {
        title: "Bad releases that went through",
        unit: "% of rollouts neither taken back nor paused (lines: 95 % intervals)",
        groups: BAD.to_vec(),
        series: RULES.to_vec(),
        axis: Axis::Linear { max: 100.0 },
        points: points(cells, &BAD, missed),
    }
}

fn failures(cells: &[Value]) -> Chart {
    Chart {
        title: "Boots that failed before the release was stopped, 100,000 hosts",
        unit: "boots, median (lines: to the 99th percentile)",
        groups: BAD.to_vec(),
        series: RULES.to_vec(),
        axis: Axis::Logarithmic { min: 1.0, max: 1e6 },
        points: points(cells, &BAD, |cell| spread(cell, "failed")),
    }
}

fn time_to_stop(cells: &[Value]) -> Chart {
    let minutes = |cell: &Value| {
        spread(cell, "acted_after").map(|(low, at, high)| (low / 60.0, at / 60.0, high / 60.0))
    };
    Chart {
        title: "From the first boot to the stop or pause",
        unit: "minutes, median (lines: to the 99th percentile)",
        groups: BAD.to_vec(),
        series: RULES.to_vec(),
        axis: Axis::Logarithmic {
            min: 0.1,
            max: 1_000.0,
        },
        points: points(cells, &BAD, minutes),
    }
}
