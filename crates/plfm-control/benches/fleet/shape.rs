//! How many processes there are, and what each has to do.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{Database, Options};

/// Open files of a process that are no host's connection: the database's connections, listeners, logs, and room to spare.
const FILES_BESIDE: usize = 1_024;

/// How a run is laid out.
#[derive(Debug, Clone)]
pub struct Shape {
    pub hosts: usize,
    pub interval: Duration,
    pub servers: usize,
    pub loaders: usize,
    /// How long the hosts take to come.
    pub ramp: Duration,
    /// The third number of the addresses that hosts connect from: another one with each run, as ports of the last one may
    /// still be closing.
    pub net: u8,
}

impl Shape {
    pub fn of(options: &Options) -> anyhow::Result<Self> {
        Self::with(options, options.hosts, options.interval(), 1)
    }

    pub fn with(options: &Options, hosts: usize, interval: Duration, net: u8) -> anyhow::Result<Self> {
        ensure!(hosts > 0, "a fleet has a host");
        let most = connections_max(hosts)?;
        let needed = hosts.div_ceil(most);
        let servers = options.servers.unwrap_or(needed).max(1);
        let loaders = options.loaders.unwrap_or(needed).max(1);
        let shape = Self {
            hosts,
            interval,
            servers,
            loaders,
            ramp: Duration::from_secs_f64(hosts as f64 / options.connects_per_second.max(1) as f64),
            net,
        };
        ensure!(
            options.database == Database::Postgres || servers == 1,
            "SQLite has one server, which may have {most} connections open here: fewer --hosts, or --database postgres"
        );
        for (what, count) in [
            ("server", shape.hosts_of_server()),
            ("loader", hosts.div_ceil(loaders)),
        ] {
            ensure!(
                count <= most,
                "{count} hosts are too many for one {what}, which may have {most} connections open here"
            );
        }
        Ok(shape)
    }

    pub fn hosts_of_server(&self) -> usize {
        self.hosts.div_ceil(self.servers)
    }

    /// The hosts of each loader: the first one's number, and how many.
    pub fn parts(&self) -> Vec<(usize, usize)> {
        let each = self.hosts.div_ceil(self.loaders);
        (0..self.hosts)
            .step_by(each)
            .map(|first| (first, each.min(self.hosts - first)))
            .collect()
    }

    pub fn render(&self) -> String {
        format!(
            "{} hosts, a heartbeat every {} s each; {} control planes, {} loaders; they come within {} s",
            self.hosts,
            self.interval.as_secs_f64(),
            self.servers,
            self.loaders,
            self.ramp.as_secs()
        )
    }
}

/// Connections of one process, after its limit was raised as far as it can be. What it starts inherits the limit.
pub fn connections_max(wanted: usize) -> anyhow::Result<usize> {
    let wanted = u64::try_from(wanted + FILES_BESIDE)?;
    let limit = getrlimit(Resource::Nofile);
    let raise = |maximum: Option<u64>| {
        let current = Some(maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum })
    };
    if limit.current.is_some_and(|current| current < wanted) {
        let higher = limit.maximum.map(|maximum| maximum.max(wanted));
        raise(higher)
            .or_else(|_| raise(limit.maximum))
            .context("cannot raise the limit of open files")?;
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    let connections = usize::try_from(current)?.saturating_sub(FILES_BESIDE);
    ensure!(
        connections > 0,
        "{current} open files are too few: raise `ulimit -n`"
    );
    Ok(connections)
}
