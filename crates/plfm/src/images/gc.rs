//! `plfm image gc`.

use plfm_api::CollectedImages;

use super::short_digest;
use crate::agent::AgentClient;
use crate::output::{CliError, Output, render_size};

pub fn run(out: &Output, agent: &AgentClient) -> Result<(), CliError> {
    let collected: CollectedImages =
        agent.block_on(async |client| client.post("/v1/images/gc", &serde_json::json!({})).await)?;
    out.result(&collected, render)
}

fn render(collected: &CollectedImages) -> String {
    let removed = collected
        .removed
        .iter()
        .map(|image| format!("removed {}", short_digest(*image)));
    let kept = collected
        .kept
        .iter()
        .map(|image| format!("kept {}: it is in use", short_digest(*image)));
    let mut lines: Vec<String> = removed.chain(kept).collect();
    lines.push(format!("freed {}", render_size(collected.freed_bytes)));
    lines.join("\n")
}
