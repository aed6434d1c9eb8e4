//! `plfm release available | fetch`: from the registry to this host, through the local agent.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use plfm_api::{FetchRelease, Registry, Release, ReleaseState};
use reqwest::Method;

use crate::agent::{AgentClient, Client, read};
use crate::output::{CliError, Output, render_fields};
use crate::table::render_table;

/// Longer than an agent takes to give a fetch up.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);
/// How often the progress is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Arguments of `plfm release fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The release's id, a label, or a build id that only one release in the registry has
    release: String,
    /// Make it the current release: new instances boot it, running ones go on as they are
    #[arg(long)]
    current: bool,
}

impl FetchArgs {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        let request = FetchRelease {
            release: self.release,
            make_current: self.current,
        };
        let shows_progress = !out.json && std::io::stderr().is_terminal();
        let release: Release = agent.block_on(async |client| {
            let fetched = fetch(client, &request);
            if !shows_progress {
                return fetched.await;
            }
            tokio::select! {
                fetched = fetched => fetched,
                never = show_progress(client) => match never {},
            }
        })?;
        out.result(&release, |release| match release.state {
            ReleaseState::Current => format!("fetched {}; it is the current release", release.id),
            ReleaseState::Installed | ReleaseState::Refused => format!(
                "fetched {}; to make it current: `plfm release use {}`",
                release.id, release.id
            ),
        })
    }
}

async fn fetch(client: &Client, request: &FetchRelease) -> Result<Release, CliError> {
    let post = client
        .request(Method::POST, "/v1/releases/fetch")
        .timeout(PATIENCE);
    read(client.send(post.json(request)).await?).await
}

/// Draws a bar until it is dropped.
async fn show_progress(client: &Client) -> std::convert::Infallible {
    let template = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::no_length().with_style(style);
    loop {
        if let Ok(registry) = client.get::<Registry>("/v1/registry").await
            && let Some(fetching) = registry.fetching.first()
        {
            bar.set_message(fetching.id.to_string());
            bar.set_length(fetching.bytes_total);
            bar.set_position(fetching.bytes_done);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `plfm release available`.
pub fn available(out: &Output, agent: &AgentClient) -> Result<(), CliError> {
    let registry: Registry =
        agent.block_on(async |client| client.post("/v1/registry/refresh", &serde_json::json!({})).await)?;
    out.result(&registry, render)
}

fn render(registry: &Registry) -> String {
    let time = |at: Option<jiff::Timestamp>| {
        at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
            .unwrap_or_else(|| "never".to_owned())
    };
    let keyring = registry
        .keyring_version
        .map(|version| format!("version {version}"));
    let mut fields = vec![
        ("registry", registry.mirrors.join(", ")),
        ("found fresh", time(registry.updated_at)),
        ("fresh until", time(registry.expires_at)),
        ("keyring", keyring.unwrap_or_else(|| "the host's own".to_owned())),
    ];
    if let Some(problem) = &registry.problem {
        fields.push(("problem", format!("{} ({})", problem.detail, problem.code)));
    }
    let rows = registry.releases.iter().map(|release| {
        [
            release.id.to_string(),
            release
                .size_bytes
                .map_or_else(|| "incomplete".to_owned(), |size| HumanBytes(size).to_string()),
            if release.installed { "yes" } else { "no" }.to_owned(),
        ]
    });
    let table = render_table(["RELEASE", "SIZE", "ON THIS HOST"], rows);
    format!("{}\n\n{table}", render_fields(&fields).trim_end())
}
