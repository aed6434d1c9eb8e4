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
use plfm_api::{ControlLink, Host};

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
        let mut fields = vec![
            ("agent", host.agent_version.clone()),
            ("guest init protocols", protocols.join(", ")),
            ("channel", host.channel.clone()),
            ("vmm", host.vmm.clone()),
            ("network", host.network.clone()),
        ];
        fields.extend(host.control.iter().flat_map(control_fields));
        render_fields(&fields)
    })
}

/// The link to the control plane.
fn control_fields(link: &ControlLink) -> Vec<(&'static str, String)> {
    let some = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    let contact = some(link.last_contact.map(|at| at.to_string()));
    let connected = if link.connected { "yes" } else { "no" };
    let mut fields = vec![
        ("control plane", link.url.clone()),
        ("connected", format!("{connected}, last contact {contact}")),
        ("host", some(link.host.as_ref().map(ToString::to_string))),
        ("host name", link.host_name.clone()),
        (
            "certificate ends",
            some(link.certificate_not_after.map(|at| at.to_string())),
        ),
        ("generation", link.generation.to_string()),
        ("default", some(link.default.as_ref().map(ToString::to_string))),
        ("fetching", link.window.clone()),
        (
            "new instances",
            if link.draining { "none: draining" } else { "yes" }.to_owned(),
        ),
        ("boots to report", link.unreported_boots.to_string()),
    ];
    fields.extend(
        link.waiting
            .iter()
            .map(|release| ("waiting for", release.to_string())),
    );
    if let Some(problem) = &link.problem {
        fields.push(("problem", format!("{} ({})", problem.detail, problem.code)));
        fields.extend(problem.hint.iter().map(|hint| ("hint", hint.clone())));
    }
    fields
}
