//! `plfm admin hosts show`.

use clap::Args;
use jiff::Timestamp;
use plfm_api::ReleaseState;
use plfm_api::control::{FleetHost, HostStatus};

use super::find::find_host;
use super::list::render_seen;
use crate::admin::Control;
use crate::output::{CliError, render_fields};
use crate::table::render_table;
use crate::times::render_time;

/// Arguments of `plfm admin hosts show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The host's id, or its name
    host: String,
}

impl ShowArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let host: FleetHost = control.block_on(async |client| {
            let id = find_host(client, &self.host).await?;
            client.get(&["hosts", id.as_str()], &[]).await
        })?;
        control.out.result(&host, |host| render(host, Timestamp::now()))
    }
}

fn render(host: &FleetHost, now: Timestamp) -> String {
    let mut fields = vec![
        ("id", host.id.to_string()),
        ("state", host.state.as_str().to_owned()),
        ("seen", render_seen(host, now)),
        ("generation", host.generation.to_string()),
        ("agent", host.agent_version.to_string()),
    ];
    let mut releases = String::new();
    if let Some(status) = &host.status {
        let protocols = &status.advertisement.guest_init_protocols;
        let protocols: Vec<String> = protocols.iter().map(u32::to_string).collect();
        fields.push(("guest init protocols", protocols.join(", ")));
        fields.push(("arch", status.arch.to_string()));
        fields.push(("vmm", status.vmm.clone()));
        for problem in &status.problems {
            fields.push(("problem", problem.clone()));
        }
        releases = render_releases(status);
    }
    fields.push(("enrolled", render_time(host.enrolled_at)));
    fields.push((
        "certificate",
        format!("until {}", render_time(host.certificate_not_after)),
    ));
    format!("{}\n{}{releases}", host.name, render_fields(&fields))
}

fn render_releases(status: &HostStatus) -> String {
    if status.releases.is_empty() {
        return "\nno releases installed\n".to_owned();
    }
    let rows = status.releases.iter().map(|release| {
        let state = match release.state {
            ReleaseState::Current => "new instances boot it",
            ReleaseState::Installed => "installed",
            ReleaseState::Refused => "refused",
        };
        [
            release.release.to_string(),
            state.to_owned(),
            release.instances.to_string(),
        ]
    });
    format!("\n{}", render_table(["RELEASE", "STATE", "INSTANCES"], rows))
}
