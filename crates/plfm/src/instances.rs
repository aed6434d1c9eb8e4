//! Verbs about the instances of this host, through the local agent.

pub mod exec;
pub mod logs;
pub mod ps;
pub mod run;
pub mod stop;

mod diagnose;
mod env;
mod frames;
mod report;
mod terminal;

use clap::Subcommand;
use plfm_api::Host;

use crate::agent::AgentClient;
use crate::output::{CliError, Output, render_fields};

/// Verbs of `plfm instances`.
#[derive(Debug, Subcommand)]
pub enum InstancesCommand {
    /// Show all that is known about an instance: its boot by stage, its console, guest init's own log
    Diagnose(diagnose::DiagnoseArgs),
}

impl InstancesCommand {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        match self {
            Self::Diagnose(args) => args.run(out, agent),
        }
    }
}

/// `plfm host`.
pub fn host(out: &Output, agent: &AgentClient) -> Result<(), CliError> {
    let host: Host = agent.block_on(async |client| client.get("/v1/host").await)?;
    out.result(&host, |host| {
        let protocols: Vec<String> = host.guest_init_protocols.iter().map(u32::to_string).collect();
        render_fields(&[
            ("agent", host.agent_version.clone()),
            ("guest init protocols", protocols.join(", ")),
            ("channel", host.channel.clone()),
            ("vmm", host.vmm.clone()),
            ("network", host.network.clone()),
        ])
    })
}
