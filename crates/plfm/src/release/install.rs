//! `plfm release install | list | use`: releases on this host, through the local agent.

use std::path::PathBuf;

use clap::Args;
use plfm_api::{InstallRelease, Items, Release, ReleaseState, SetCurrentRelease};

use crate::agent::AgentClient;
use crate::output::{Category, CliError, Output};
use crate::table::render_table;

/// Arguments of `plfm release install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The release's directory, as `plfm release build` makes it
    directory: PathBuf,
    /// Make it the current release: new instances boot it, running ones go on as they are
    #[arg(long)]
    current: bool,
}

impl InstallArgs {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        let unusable = |why: String| {
            CliError::new(
                Category::Failure,
                "directory_invalid",
                format!("cannot use {}: {why}", self.directory.display()),
            )
        };
        let directory = std::path::absolute(&self.directory).map_err(|error| unusable(error.to_string()))?;
        let directory = directory
            .into_os_string()
            .into_string()
            .map_err(|_| unusable("its path is not UTF-8".to_owned()))?;
        let request = InstallRelease {
            directory,
            make_current: self.current,
        };
        let release: Release = agent.block_on(async |client| client.post("/v1/releases", &request).await)?;
        out.result(&release, |release| match release.state {
            ReleaseState::Current => format!("installed {}; it is the current release", release.id),
            ReleaseState::Installed | ReleaseState::Refused => {
                format!(
                    "installed {}; to make it current: `plfm release use {}`",
                    release.id, release.id
                )
            }
        })
    }
}

/// Arguments of `plfm release use`.
#[derive(Debug, Args)]
pub struct UseArgs {
    /// The release's id, a label, or a build id that only one release has
    release: String,
}

impl UseArgs {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        let request = SetCurrentRelease {
            release: self.release,
        };
        let release: Release =
            agent.block_on(async |client| client.post("/v1/releases/current", &request).await)?;
        out.result(&release, |release| {
            format!("{} is the current release", release.id)
        })
    }
}

/// `plfm release list`.
pub fn list(out: &Output, agent: &AgentClient) -> Result<(), CliError> {
    let releases: Items<Release> = agent.block_on(async |client| client.get("/v1/releases").await)?;
    out.result(&releases, |releases| render(&releases.items))
}

fn render(releases: &[Release]) -> String {
    let header = [
        "RELEASE",
        "STATE",
        "PROTOCOL",
        "INSTANCES",
        "INSTALLED",
        "KEPT BECAUSE",
        "PROBLEM",
    ];
    let row = |release: &Release| {
        let state = match release.state {
            ReleaseState::Current => "current",
            ReleaseState::Installed => "installed",
            ReleaseState::Refused => "refused",
        };
        [
            release.id.to_string(),
            state.to_owned(),
            release
                .protocol
                .map(|protocol| protocol.to_string())
                .unwrap_or_default(),
            release.instances.to_string(),
            release
                .installed_at
                .map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
                .unwrap_or_default(),
            release.kept_because.join(", "),
            release.problem.clone().unwrap_or_default(),
        ]
    };
    render_table(header, releases.iter().map(row))
}
