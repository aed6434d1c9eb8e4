//! The figures of one run.

use std::fmt::Write as _;

use anyhow::ensure;
use serde::Serialize;

use crate::counted::Counted;
use crate::host::Tally;
use crate::lists::Took;
use crate::measure::Usage;
use crate::shape::Shape;
use crate::spread::Spread;
use crate::{Database, Options};

/// How the hosts came to be in the fleet.
const IDENTITIES: &str = "each host has a certificate of its own, issued with the control plane's own authority for one key, and an \
                          event in its log, appended with the store's own functions; nobody enrolled over HTTP";
/// Lines of a control plane's log that are shown.
const WARNINGS_SHOWN: usize = 5;

#[derive(Debug, Default, Serialize)]
pub struct Figures {
    hosts: usize,
    servers: usize,
    loaders: usize,
    database: Option<Database>,
    interval_seconds: f64,
    news_percent: u64,
    identities: &'static str,
    pub seeded_seconds: f64,
    /// From the servers' start until all are ready: reading the log is in it.
    pub started_seconds: f64,
    /// From the loaders' start until every host had its first answer.
    pub connected_seconds: f64,
    pub span_seconds: f64,
    pub latency_ms: Spread,
    /// Of the whole run, coming included.
    pub tally: Tally,
    /// What the servers counted as kept.
    pub heartbeats_kept: f64,
    pub connections_open: f64,
    pub in_database: Counted,
    pub boots_listed: u64,
    pub hosts_active_listed: u64,
    pub kernels_under_load_ms: Spread,
    pub scrapes_under_load_ms: Spread,
    pub kernels_ms: Took,
    pub command_ms: Option<Took>,
    pub push_ms: Vec<Spread>,
    pub used_when_ready: Usage,
    pub used_when_connected: Usage,
    pub used_before_span: Usage,
    pub used_after_span: Usage,
    warnings: Vec<String>,
}

impl Figures {
    pub fn new(options: &Options, shape: &Shape) -> Self {
        Self {
            hosts: shape.hosts,
            servers: shape.servers,
            loaders: shape.loaders,
            database: Some(options.database),
            interval_seconds: shape.interval.as_secs_f64(),
            news_percent: options.news_percent,
            identities: IDENTITIES,
            ..Self::default()
        }
    }

    /// Keeps what a server's log has, of which nothing is expected.
    pub fn warned(&mut self, log: &str) {
        let room = WARNINGS_SHOWN.saturating_sub(self.warnings.len());
        self.warnings.extend(log.lines().take(room).map(str::to_owned));
    }

    pub fn render(&self) -> String {
        let mut text = format!(
            "identities    {}\nbegin         seeded in {:.1} s, servers ready in {:.1} s, all hosts there in {:.1} s\n",
            self.identities, self.seeded_seconds, self.started_seconds, self.connected_seconds
        );
        if self.push_ms.is_empty() {
            self.render_load(&mut text);
        }
        for (round, spread) in self.push_ms.iter().enumerate() {
            let _ = writeln!(text, "push {:<9}{}", round + 1, spread.render());
        }
        self.render_memory(&mut text);
        for warning in &self.warnings {
            let _ = writeln!(text, "a log has     {warning}");
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn render_load(&self, text: &mut String) {
        let tally = &self.tally;
        let _ = writeln!(
            text,
            "heartbeats    {} in {:.0} s ({:.0}/s)\n              {}",
            self.latency_ms.count,
            self.span_seconds,
            self.latency_ms.count as f64 / self.span_seconds.max(0.001),
            self.latency_ms.render()
        );
        let _ = writeln!(
            text,
            "counted       {} sent, {} answered, {} kept; in the database {} of {} news, {} of {} boots, {} hosts",
            tally.sent,
            tally.answered,
            self.heartbeats_kept,
            self.in_database.news,
            tally.news,
            self.in_database.boots,
            tally.boots,
            self.in_database.hosts
        );
        for failure in &tally.failures {
            let _ = writeln!(text, "failed        {failure}");
        }
        let _ = writeln!(
            text,
            "under load    GET /v1/kernels {}",
            self.kernels_under_load_ms.render()
        );
        let _ = writeln!(
            text,
            "              GET /metrics    {}",
            self.scrapes_under_load_ms.render()
        );
        let _ = writeln!(
            text,
            "afterwards    {} connections open; GET /v1/kernels {}",
            self.connections_open,
            self.kernels_ms.render()
        );
        if let Some(command) = &self.command_ms {
            let _ = writeln!(text, "              plfm admin kernels list {}", command.render());
        }
        let (before, after) = (&self.used_before_span, &self.used_after_span);
        let share = |ms: u64| ms as f64 / 10.0 / self.span_seconds.max(0.001);
        let _ = writeln!(
            text,
            "processor     in percent of one: servers {:.0}, PostgreSQL {:.0}, loaders {:.0}",
            share(after.servers.cpu_ms_since(&before.servers)),
            share(after.postgres.cpu_ms_since(&before.postgres)),
            share(after.loaders.cpu_ms_since(&before.loaders))
        );
    }

    fn render_memory(&self, text: &mut String) {
        let (ready, connected) = (&self.used_when_ready, &self.used_when_connected);
        let last = if self.push_ms.is_empty() {
            &self.used_after_span
        } else {
            connected
        };
        let mib = |bytes: u64| bytes >> 20;
        let _ = writeln!(
            text,
            "memory        MiB: servers {} when ready, {} when all are there, {} at the end; PostgreSQL {}; loaders {}",
            mib(ready.servers.memory_bytes),
            mib(connected.servers.memory_bytes),
            mib(last.servers.memory_bytes),
            mib(last.postgres.memory_bytes),
            mib(last.loaders.memory_bytes)
        );
        let each = |bytes: u64| bytes as f64 / 1024.0 / self.hosts.max(1) as f64;
        let grown = connected
            .servers
            .memory_bytes
            .saturating_sub(ready.servers.memory_bytes);
        let _ = writeln!(
            text,
            "              KiB a host: servers {:.1} (and {:.1} each server for knowing it), loaders {:.1}",
            each(grown),
            each(ready.servers.memory_bytes) / self.servers.max(1) as f64,
            each(last.loaders.memory_bytes)
        );
    }

    /// Nothing may be lost or counted twice; how fast it was is for the reader.
    pub fn verdict(&self) -> anyhow::Result<()> {
        if !self.push_ms.is_empty() {
            return Ok(());
        }
        let tally = &self.tally;
        ensure!(tally.failed == 0, "{} heartbeats were not answered", tally.failed);
        same("heartbeats", "answered", tally.answered, "sent", tally.sent)?;
        same(
            "heartbeats",
            "kept",
            self.heartbeats_kept as u64,
            "sent",
            tally.sent,
        )?;
        let of = |count: i64| u64::try_from(count).unwrap_or(0);
        let database = &self.in_database;
        let hosts = u64::try_from(self.hosts).unwrap_or(0);
        same("news", "in the database", of(database.news), "sent", tally.news)?;
        same(
            "boots",
            "in the database",
            of(database.boots),
            "reported",
            tally.boots,
        )?;
        same(
            "boots",
            "in it by minute",
            of(database.boots_by_minute),
            "reported",
            tally.boots,
        )?;
        same("boots", "listed", self.boots_listed, "reported", tally.boots)?;
        same("hosts", "in the database", of(database.hosts), "simulated", hosts)?;
        same(
            "hosts",
            "listed as active",
            self.hosts_active_listed,
            "simulated",
            hosts,
        )
    }

    /// The latency that a limit is for.
    pub fn p99_ms(&self) -> f64 {
        self.latency_ms.p99
    }
}

fn same(what: &str, one: &str, ones: u64, other: &str, others: u64) -> anyhow::Result<()> {
    ensure!(ones == others, "{what}: {ones} {one}, {others} {other}");
    Ok(())
}
