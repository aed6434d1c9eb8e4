//! The figures.

use std::fmt::Write as _;

use anyhow::ensure;
use serde::Serialize;

use crate::{Database, Options};

#[derive(Debug, Default, Serialize)]
pub struct Figures {
    hosts: usize,
    database: &'static str,
    interval_seconds: u64,
    pub started_ms: u64,
    pub connect_ms: u64,
    pub load_seconds: f64,
    pub load_cpu_ms: u64,
    pub answered: u64,
    pub failed: u64,
    pub heartbeats_counted: f64,
    pub boots_sent: u64,
    pub boots_counted: u64,
    latency_ms: Spread,
    list_ms: Spread,
    push_ms: Vec<Spread>,
    pub server_rss_bytes: u64,
    pub server_cpu_ms: u64,
}

/// How a figure is spread, in milliseconds.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Spread {
    count: usize,
    p50: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    fn of(mut us: Vec<u64>) -> Self {
        us.sort_unstable();
        let at = |share: f64| {
            let index = (us.len() as f64 * share).ceil() as usize;
            us.get(index.saturating_sub(1))
                .map_or(0.0, |us| *us as f64 / 1_000.0)
        };
        Self {
            count: us.len(),
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        }
    }

    fn render(&self) -> String {
        format!(
            "P50 {:.1} ms, P99 {:.1} ms, most {:.1} ms of {}",
            self.p50, self.p99, self.max, self.count
        )
    }
}

impl Figures {
    pub fn new(options: &Options, started_ms: u64) -> Self {
        Self {
            hosts: options.hosts,
            database: match options.database {
                Database::Sqlite => "sqlite",
                Database::Postgres => "postgres",
            },
            interval_seconds: options.interval_seconds,
            started_ms,
            ..Self::default()
        }
    }

    pub fn latency(&mut self, us: Vec<u32>) {
        self.latency_ms = Spread::of(us.into_iter().map(u64::from).collect());
    }

    pub fn lists(&mut self, us: Vec<u64>) {
        self.list_ms = Spread::of(us);
    }

    pub fn pushed(&mut self, us: Vec<u64>) {
        self.push_ms.push(Spread::of(us));
    }

    pub fn render(&self) -> String {
        let mut text = format!(
            "{} hosts, {}; ready after {} ms; all connected after {} ms\n",
            self.hosts, self.database, self.started_ms, self.connect_ms
        );
        if self.latency_ms.count > 0 {
            let _ = writeln!(
                text,
                "heartbeats    {} in {:.0} s ({:.0}/s), {} not answered\n              {}",
                self.answered,
                self.load_seconds,
                self.answered as f64 / self.load_seconds.max(0.001),
                self.failed,
                self.latency_ms.render()
            );
            let _ = writeln!(
                text,
                "counted       {} heartbeats; {} boots of {} that were reported",
                self.heartbeats_counted, self.boots_counted, self.boots_sent
            );
            let _ = writeln!(text, "kernels list  {}", self.list_ms.render());
            let share = self.load_cpu_ms as f64 / 10.0 / self.load_seconds.max(0.001);
            let _ = writeln!(text, "processor     {share:.0} % of one, the control plane alone");
        }
        for (round, spread) in self.push_ms.iter().enumerate() {
            let _ = writeln!(text, "push {:<9}{}", round + 1, spread.render());
        }
        let _ = write!(
            text,
            "memory        {} MiB at most",
            self.server_rss_bytes / (1 << 20)
        );
        text
    }

    /// Nothing may be lost or counted twice; how fast it was is for the reader.
    pub fn verdict(&self) -> anyhow::Result<()> {
        ensure!(self.failed == 0, "{} heartbeats were not answered", self.failed);
        ensure!(
            self.heartbeats_counted >= self.answered as f64,
            "{} heartbeats were answered, {} counted",
            self.answered,
            self.heartbeats_counted
        );
        ensure!(
            self.boots_counted == self.boots_sent,
            "{} boots were reported, {} counted",
            self.boots_sent,
            self.boots_counted
        );
        Ok(())
    }
}
