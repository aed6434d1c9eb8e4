//! `plfm release pin | unpin | gc`: what stays on this host.

use clap::Args;
use indicatif::HumanBytes;
use plfm_api::{Collected, PinRelease, Release};

use crate::agent::AgentClient;
use crate::output::{CliError, Output};

/// Arguments of `plfm release pin` and `plfm release unpin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// The release's id, a label, or a build id that only one release has
    release: String,
}

impl PinArgs {
    pub fn run(self, out: &Output, agent: &AgentClient, pinned: bool) -> Result<(), CliError> {
        let request = PinRelease {
            release: self.release,
            pinned,
        };
        let release: Release =
            agent.block_on(async |client| client.post("/v1/releases/pin", &request).await)?;
        out.result(&release, |release| {
            let kept = match release.kept_because.as_slice() {
                [] => "nothing keeps it: the next collection removes it".to_owned(),
                reasons => format!("kept: {}", reasons.join(", ")),
            };
            let (did, undo) = if pinned {
                ("pinned", "unpin")
            } else {
                ("unpinned", "pin")
            };
            format!(
                "{did} {}; {kept}\nundo: `plfm release {undo} {}`",
                release.id, release.id
            )
        })
    }
}

/// `plfm release gc`.
pub fn collect(out: &Output, agent: &AgentClient) -> Result<(), CliError> {
    let collected: Collected =
        agent.block_on(async |client| client.post("/v1/releases/gc", &serde_json::json!({})).await)?;
    out.result(&collected, |collected| {
        let mut lines: Vec<String> = collected
            .removed
            .iter()
            .map(|id| format!("removed {id}"))
            .collect();
        lines.extend(collected.kept.iter().map(|kept| format!("kept {kept}")));
        lines.push(format!("freed {}", HumanBytes(collected.freed_bytes)));
        lines.join("\n")
    })
}
