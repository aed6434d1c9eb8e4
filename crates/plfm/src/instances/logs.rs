//! `plfm logs`: what an instance's program wrote.

use clap::Args;
use reqwest::Method;

use super::frames::OutputSplitter;
use crate::agent::AgentClient;
use crate::output::{Category, CliError, Output};

/// Arguments of `plfm logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The instance's id, or the end of it
    instance: String,
    /// Go on until the program ends
    #[arg(long, short)]
    follow: bool,
    /// The serial console instead: the kernel, and what guest init says there
    #[arg(long, conflicts_with = "follow")]
    console: bool,
}

impl LogsArgs {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        if out.json {
            let error = CliError::new(Category::Usage, "no_json_here", "a program's output is not JSON");
            return Err(error.with_hint(Some("leave --output json out".to_owned())));
        }
        let path = if self.console {
            format!("/v1/instances/{}/console", self.instance)
        } else {
            format!("/v1/instances/{}/output?follow={}", self.instance, self.follow)
        };
        agent.block_on(async |client| {
            let mut response = client.send(client.request(Method::GET, &path)).await?;
            let mut splitter = OutputSplitter::new(false);
            let lost =
                |error: &reqwest::Error| CliError::from_error(Category::Transient, "agent_lost", error);
            while let Some(bytes) = response.chunk().await.map_err(|error| lost(&error))? {
                if self.console {
                    write_console(&bytes)?;
                } else {
                    splitter.push(&bytes)?;
                }
            }
            Ok(())
        })
    }
}

/// The console's bytes as they are, but for what could drive the terminal that they are shown on.
fn write_console(bytes: &[u8]) -> Result<(), CliError> {
    use std::io::Write as _;
    let harmless = |byte: &u8| !byte.is_ascii_control() || matches!(byte, b'\n' | b'\r' | b'\t');
    let shown: Vec<u8> = bytes.iter().copied().filter(harmless).collect();
    std::io::stdout().write_all(&shown).map_err(|error| {
        CliError::new(
            Category::Failure,
            "output_unwritable",
            format!("cannot write the console's output: {error}"),
        )
    })
}
