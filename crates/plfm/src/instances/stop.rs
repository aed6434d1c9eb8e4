//! `plfm stop` and `plfm rm`.

use clap::Args;
use plfm_api::{Instance, StopInstance};
use reqwest::Method;

use super::report::render_exit;
use crate::agent::AgentClient;
use crate::output::{CliError, Output};

/// Arguments of `plfm stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The instance's id, or the end of it
    instance: String,
    /// Grace in seconds, instead of the program's own; 0 kills at once
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u32>,
    /// Return without waiting for the end
    #[arg(long)]
    no_wait: bool,
}

impl StopArgs {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        let instance: Instance = agent.block_on(async |client| {
            let path = format!("/v1/instances/{}", self.instance);
            let instance: Instance = client
                .post(
                    &format!("{path}/stop"),
                    &StopInstance {
                        grace_seconds: self.grace,
                    },
                )
                .await?;
            if self.no_wait {
                Ok(instance)
            } else {
                client.get(&format!("{path}?wait=stopped")).await
            }
        })?;
        out.result(&instance, |instance| {
            let exit = render_exit(instance);
            let exit = if exit.is_empty() {
                exit
            } else {
                format!(" ({exit})")
            };
            format!("instance {} is {}{exit}", instance.id, instance.state.as_str())
        })
    }
}

/// Arguments of `plfm rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The instance's id, or the end of it
    instance: String,
}

impl RmArgs {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        let path = format!("/v1/instances/{}", self.instance);
        let instance: Instance = agent.block_on(async |client| {
            let instance: Instance = client.get(&path).await?;
            client.send(client.request(Method::DELETE, &path)).await?;
            Ok(instance)
        })?;
        out.result(&instance, |instance| {
            format!("instance {} is forgotten", instance.id)
        })
    }
}
