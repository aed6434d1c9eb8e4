//! `plfm ps`: the instances of this host.

use clap::Args;
use jiff::Timestamp;
use plfm_api::{Instance, Items};

use super::report::render_exit;
use crate::agent::AgentClient;
use crate::images::short_digest;
use crate::output::{CliError, Output};
use crate::table::render_table;
use crate::times::render_age;

/// Longest command shown, in characters.
const COMMAND_MAX: usize = 40;

/// Arguments of `plfm ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Instances that are over too
    #[arg(long, short)]
    all: bool,
}

impl PsArgs {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        let mut list: Items<Instance> = agent.block_on(async |client| client.get("/v1/instances").await)?;
        list.items
            .retain(|instance| self.all || !instance.state.is_over());
        out.result(&list, |list| render(&list.items, Timestamp::now()))
    }
}

fn render(instances: &[Instance], now: Timestamp) -> String {
    let header = [
        "INSTANCE", "NAME", "STATE", "RELEASE", "WHY", "ADDRESS", "AGE", "EXIT", "IMAGE", "COMMAND",
    ];
    let row = |instance: &Instance| {
        [
            instance.id.clone(),
            instance.name.clone().unwrap_or_default(),
            instance.state.as_str().to_owned(),
            instance.release.to_string(),
            instance.release_reason.clone(),
            instance
                .address
                .map(|address| address.to_string())
                .unwrap_or_default(),
            render_age(now.duration_since(instance.created_at)),
            render_exit(instance),
            render_image(instance),
            render_command(&instance.argv),
        ]
    };
    render_table(header, instances.iter().map(row))
}

/// What was asked for, and what that meant: a name says little when a tag has moved.
fn render_image(instance: &Instance) -> String {
    instance.image.as_ref().map_or_else(String::new, |image| {
        let name = image.name.split('@').next().unwrap_or_default();
        format!("{name}@{}", short_digest(image.digest))
    })
}

/// On one line, whatever is in it.
fn render_command(argv: &[String]) -> String {
    let command = argv.join(" ");
    command
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(COMMAND_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_line() {
        assert_eq!(
            render_command(&["sh".into(), "-c".into(), "\necho a\n\u{1b}[2Jb".into()]),
            "sh -c echo a [2Jb"
        );
    }
}
