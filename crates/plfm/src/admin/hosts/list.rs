//! `plfm admin hosts list`.

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use plfm_api::control::{FleetHost, HostState};
use plfm_api::{Items, ReleaseState};

use crate::admin::Control;
use crate::output::CliError;
use crate::table::render_table;
use crate::times::render_age;

/// Arguments of `plfm admin hosts list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only hosts in this state
    #[arg(long)]
    state: Option<StateArg>,
    /// Only hosts that have this release
    #[arg(long)]
    release: Option<String>,
}

/// A host's state on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateArg {
    Active,
    Draining,
    Lost,
    Enrolled,
    Revoked,
}

impl From<StateArg> for HostState {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Active => Self::Active,
            StateArg::Draining => Self::Draining,
            StateArg::Lost => Self::Lost,
            StateArg::Enrolled => Self::Enrolled,
            StateArg::Revoked => Self::Revoked,
        }
    }
}

impl ListArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let state = self.state.map(|state| HostState::from(state).as_str().to_owned());
        let mut query = Vec::new();
        query.extend(state.map(|state| ("state", state)));
        query.extend(self.release.map(|release| ("release", release)));
        let items: Vec<FleetHost> = control.block_on(async |client| client.list(&["hosts"], &query).await)?;
        let now = Timestamp::now();
        let is_filtered = !query.is_empty();
        control
            .out
            .result(&Items { items }, |list| render(&list.items, is_filtered, now))
    }
}

fn render(hosts: &[FleetHost], is_filtered: bool, now: Timestamp) -> String {
    if hosts.is_empty() && is_filtered {
        return "no such hosts\n".to_owned();
    }
    if hosts.is_empty() {
        return "no hosts; `plfm admin hosts enroll-token` makes a token for one\n".to_owned();
    }
    let header = [
        "HOST",
        "NAME",
        "STATE",
        "AGENT",
        "GENERATION",
        "BOOTS",
        "INSTANCES",
        "SEEN",
        "PROBLEMS",
    ];
    let rows = hosts.iter().map(|host| {
        let instances = |host: &FleetHost| {
            let releases = &host.status.as_ref()?.releases;
            Some(
                releases
                    .iter()
                    .map(|release| u64::from(release.instances))
                    .sum::<u64>(),
            )
        };
        let problems = host.status.as_ref().map_or(0, |status| status.problems.len());
        [
            host.id.to_string(),
            host.name.clone(),
            host.state.as_str().to_owned(),
            host.agent_version.to_string(),
            host.generation.to_string(),
            current(host),
            instances(host).map(|count| count.to_string()).unwrap_or_default(),
            render_seen(host, now),
            if problems == 0 {
                String::new()
            } else {
                problems.to_string()
            },
        ]
    });
    render_table(header, rows)
}

/// What new instances boot there.
pub fn current(host: &FleetHost) -> String {
    let releases = host.status.iter().flat_map(|status| &status.releases);
    let mut current = releases.filter(|release| release.state == ReleaseState::Current);
    current
        .next()
        .map(|release| release.release.to_string())
        .unwrap_or_default()
}

/// How long ago it was heard of.
pub fn render_seen(host: &FleetHost, now: Timestamp) -> String {
    match host.seen_at {
        Some(at) => format!("{} ago", render_age(now.duration_since(at))),
        None => "never".to_owned(),
    }
}
