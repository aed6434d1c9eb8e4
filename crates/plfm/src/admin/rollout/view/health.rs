//! What the boots say, in tables.

use plfm_api::control::{BootSample, Evidence, RolloutHealth, RolloutPlan, SlowBoots};

use crate::table::render_table;

/// Characters of a bar.
const BAR_CHARS: usize = 10;

/// Boots of both releases, and how many of them failed.
pub fn render_samples(health: &RolloutHealth) -> String {
    let rows = [
        ("the release, in this wave", &health.sample),
        ("the release, as judged", &health.release),
        ("before it, same minutes", &health.baseline),
    ];
    let rows = rows.map(|(name, sample)| {
        [
            name.to_owned(),
            count(sample.boots),
            count(sample.failures),
            sample.failure_rate.map(percent).unwrap_or_default(),
            render_interval(sample),
            count(sample.handshake_timeouts),
            count(sample.slow),
        ]
    });
    let header = [
        "BOOTS OF",
        "COUNTED",
        "FAILED",
        "RATE",
        "95% INTERVAL",
        "NO HELLO",
        "SLOW",
    ];
    render_table(header, rows)
}

fn render_interval(sample: &BootSample) -> String {
    let render = |[low, high]: [f64; 2]| format!("{} to {}", percent(low), percent(high));
    sample.failure_rate_interval.map(render).unwrap_or_default()
}

/// How sure each test is, how sure it must be, and what happens then.
pub fn render_evidence(health: &RolloutHealth, plan: &RolloutPlan) -> String {
    if health.evidence.is_empty() {
        return String::new();
    }
    let rows = health.evidence.iter().map(|evidence| {
        let (test, then) = meaning(&evidence.test, plan);
        [
            test.to_owned(),
            one_in(evidence.one_in),
            one_in(evidence.needed),
            bar(evidence),
            then.to_owned(),
        ]
    });
    let table = render_table(["TEST", "CHANCE", "NEEDED", "EVIDENCE", "THEN"], rows);
    let hosts = match health.failing_hosts {
        0 => return table,
        1 => "1 host".to_owned(),
        hosts => format!("{hosts} hosts"),
    };
    format!("{table}failures that count are from {hosts}\n")
}

/// A test in words, and what happens when it is sure.
fn meaning<'a>(test: &'a str, plan: &RolloutPlan) -> (&'a str, &'static str) {
    match test {
        "worse_than_baseline" => ("fails more often than before", "taken back"),
        "handshake_timeouts" => ("says no hello more often", "taken back"),
        "over_threshold" => ("fails more than the threshold", "withdrawn"),
        "worse_at_all" => ("is worse at all", "paused"),
        "slow" => match plan.slow {
            Some(SlowBoots::Pause) => ("is slow more often", "paused"),
            Some(SlowBoots::Warn) | None => ("is slow more often", "said"),
        },
        other => (other, ""),
    }
}

/// `1 in 12`: the larger, the surer.
fn one_in(chance: f64) -> String {
    match chance {
        chance if chance < 1.5 => "1 in 1".to_owned(),
        chance if chance < 1e6 => format!("1 in {chance:.0}"),
        chance => format!("1 in {chance:.0e}"),
    }
}

/// How far the evidence is: each boot multiplies it, so its logarithm.
fn bar(evidence: &Evidence) -> String {
    let share = match evidence.needed.ln() {
        whole if whole > 0.0 => (evidence.one_in.max(1.0).ln() / whole).clamp(0.0, 1.0),
        _ => 0.0,
    };
    let full =
        (0..BAR_CHARS).filter(|place| share * 10.0 >= f64::from(u8::try_from(*place).unwrap_or(0)) + 1.0);
    let full = full.count();
    "#".repeat(full) + &"-".repeat(BAR_CHARS - full)
}

/// Hosts whose failures are not counted.
pub fn render_hosts_apart(health: &RolloutHealth) -> String {
    if health.apart.is_empty() {
        return String::new();
    }
    let of = |failures: f64, boots: f64| format!("{} of {}", count(failures), count(boots));
    let rows = health.apart.iter().map(|host| {
        [
            host.name.clone(),
            host.host.to_string(),
            of(host.release_failures, host.release_boots),
            of(host.baseline_failures, host.baseline_boots),
        ]
    });
    let table = render_table(["SET APART", "HOST", "FAILED", "FAILED BEFORE IT"], rows);
    format!("{table}failures of hosts set apart are not counted: they are the hosts' own\n")
}

/// Boots; parts of them where hosts were weighed.
fn count(boots: f64) -> String {
    let rounded = boots.round();
    match (boots - rounded).abs() < 0.05 {
        true => format!("{rounded:.0}"),
        false => format!("{boots:.1}"),
    }
}

fn percent(rate: f64) -> String {
    format!("{:.1}%", rate * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_a_bar_that_is_full_only_when_it_is_enough() {
        let bar_of = |one_in, needed| {
            bar(&Evidence {
                test: String::new(),
                one_in,
                needed,
            })
        };
        assert_eq!(bar_of(0.2, 10_000.0), "----------");
        assert_eq!(bar_of(100.0, 10_000.0), "#####-----");
        assert_eq!(bar_of(9_999.0, 10_000.0), "#########-");
        assert_eq!(bar_of(10_000.0, 10_000.0), "##########");
        assert_eq!(bar_of(1e300, 10_000.0), "##########");
        assert_eq!(bar_of(5.0, 1.0), "----------");
    }

    #[test]
    fn numbers_have_as_many_digits_as_they_mean() {
        assert_eq!([0.0, 1.0, 16.96, 3.25].map(count), ["0", "1", "17", "3.2"]);
        assert_eq!(
            [0.3, 1.0, 12.4, 123_456.0, 3.2e12].map(one_in),
            ["1 in 1", "1 in 1", "1 in 12", "1 in 123456", "1 in 3e12"]
        );
    }
}
