//! What is shipped for Prometheus and Grafana: rules that promtool accepts, whose tests hold, and that speak of metrics
//! which there are.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::debian::PROMTOOL;
use crate::shell::{root, run_quietly, step};

/// What an exporter adds to a histogram's name.
const SUFFIXES: &[&str] = &["_bucket", "_sum", "_count"];

/// Checks all of it.
pub fn check() -> anyhow::Result<()> {
    step("rules, their tests, and the dashboard");
    let dir = root().join("monitoring");
    let promtool = PROMTOOL.ensure()?;
    let tool = |args: &[&str]| run_quietly(Command::new(&promtool).args(args).current_dir(&dir));
    tool(&["check", "config", "prometheus.yml"])?;
    tool(&["test", "rules", "alerts.test.yml"])?;
    let documented = std::fs::read_to_string(root().join("docs/metrics.md"))?;
    let documented = names(&documented);
    for file in ["alerts.yml", "dashboard.json"] {
        let text = std::fs::read_to_string(dir.join(file)).with_context(|| format!("cannot read {file}"))?;
        let unknown: Vec<String> = names(&text)
            .into_iter()
            .map(|name| {
                SUFFIXES
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .unwrap_or(&name)
                    .to_owned()
            })
            .filter(|name| !documented.contains(name))
            .collect();
        ensure!(
            unknown.is_empty(),
            "{file} names metrics that docs/metrics.md does not have: {unknown:?}"
        );
    }
    Ok(())
}

/// The words that look like a metric of ours.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let words = text.split(|c| !is_part(c)).map(|word| word.trim_end_matches(':'));
    // What a rule records has a colon after `plfm`.
    let ours = words.filter(|word| word.starts_with("plfm_"));
    ours.map(str::to_owned).collect()
}
