//! The most hosts that one control plane on SQLite serves in time: doubled until it does not, then halved in between.
//!
//! A process cannot have a connection open for each of so many hosts. What costs is the heartbeat: as many a second come over
//! fewer connections, each more often. So a figure of N hosts is that of the heartbeats of N hosts.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::measure::measure;
use crate::shape::{Shape, connections_max};
use crate::spread::Spread;
use crate::{Database, Options};

/// What the slowest of a hundred heartbeats may take, in milliseconds.
const P99_MS_MAX: f64 = 100.0;
/// Where it begins.
const HOSTS_FIRST: usize = 4_000;
/// Runs, at most: from the first to 100,000 it doubles five times, and five halvings come within 3 %.
const TRIES_MAX: u8 = 12;
/// Connections of one run: more take longer to come and cost nothing between heartbeats.
const CONNECTIONS_MAX: usize = 5_000;

/// One try.
#[derive(Debug, Clone, Serialize)]
pub struct Try {
    pub hosts: usize,
    pub connections: usize,
    pub interval_ms: u128,
    pub latency_ms: Spread,
    /// In time, and nothing lost.
    pub holds: bool,
    pub problem: Option<String>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Most {
    p99_ms_max: f64,
    interval_seconds: u64,
    seconds: u64,
    tries: Vec<Try>,
    /// The most that held.
    hosts: usize,
    /// The fewest that did not, if any did not.
    too_many: Option<usize>,
}

pub async fn find(options: &Options) -> anyhow::Result<Most> {
    let mut most = Most {
        p99_ms_max: P99_MS_MAX,
        interval_seconds: options.interval_seconds,
        seconds: options.seconds,
        tries: Vec::new(),
        hosts: 0,
        too_many: None,
    };
    for number in 1..=TRIES_MAX {
        let Some(hosts) = most.next(options.hosts) else {
            break;
        };
        let tried = attempt(options, hosts, number).await?;
        println!("{}", tried.render());
        if tried.holds {
            most.hosts = most.hosts.max(hosts);
        } else {
            most.too_many = Some(most.too_many.map_or(hosts, |too_many| too_many.min(hosts)));
        }
        most.tries.push(tried);
    }
    Ok(most)
}

async fn attempt(options: &Options, hosts: usize, number: u8) -> anyhow::Result<Try> {
    let connections = hosts.min(CONNECTIONS_MAX).min(connections_max(CONNECTIONS_MAX)?);
    let interval = options.interval().mul_f64(connections as f64 / hosts as f64);
    let options = Options {
        database: Database::Sqlite,
        servers: Some(1),
        ..options.clone()
    };
    let interval = interval.max(Duration::from_millis(1));
    let shape = Shape::with(&options, connections, interval, number)?;
    let figures = measure(&options, &shape).await?;
    let verdict = figures.verdict();
    Ok(Try {
        hosts,
        connections,
        interval_ms: interval.as_millis(),
        latency_ms: figures.latency_ms,
        holds: verdict.is_ok() && figures.p99_ms() < P99_MS_MAX,
        problem: verdict.err().map(|error| error.to_string()),
    })
}

impl Most {
    /// How many are tried next, of so many at most; `None` when it is known well enough: within a twentieth.
    fn next(&self, hosts_max: usize) -> Option<usize> {
        match self.too_many {
            None if self.tries.is_empty() => Some(HOSTS_FIRST.min(hosts_max)),
            None if self.hosts >= hosts_max => None,
            None => Some((self.hosts * 2).min(hosts_max)),
            Some(too_many) if too_many - self.hosts <= too_many / 20 => None,
            Some(too_many) => Some(self.hosts.midpoint(too_many)).filter(|hosts| *hosts > 0),
        }
    }

    pub fn render(&self) -> String {
        let mut text = format!(
            "at {} hosts with a heartbeat every {} s each, P99 is under {:.0} ms",
            self.hosts, self.interval_seconds, self.p99_ms_max
        );
        match self.too_many {
            Some(too_many) => {
                let _ = write!(text, "; at {too_many} it is not");
            }
            None => text.push_str("; more were not tried"),
        }
        text
    }
}

impl Try {
    fn render(&self) -> String {
        let mut text = format!(
            "{} hosts, as {} connections with a heartbeat every {} ms each: {}",
            self.hosts,
            self.connections,
            self.interval_ms,
            self.latency_ms.render()
        );
        if let Some(problem) = &self.problem {
            let _ = write!(text, "; {problem}");
        }
        text
    }
}
