//! `plfm host`: what the agent of this host says of it, and `plfm host check`: what the host itself has and lacks.
//!
//! A check needs no agent: it is for before there is one, and for when it does not start.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use plfm_vmm::{
    AcceleratorChoice, CheckState, HostCheck, HostFacts, JAIL_CGROUP_DEFAULT, JailUser, JailWish,
    ProbeCommand, VmmChoice, VmmWish,
};
use serde::Serialize;

use crate::agent::AgentClient;
use crate::instances;
use crate::output::{CliError, Output};
use crate::table::render_table;

/// Arguments of `plfm host`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HostArgs {
    #[command(subcommand)]
    command: Option<HostCommand>,
}

/// Verbs of `plfm host`.
#[derive(Debug, Subcommand)]
enum HostCommand {
    /// Look what this host has for instances and what it lacks; exit code 1 if something needed is missing
    ///
    /// Run it as the agent's user, which is root as it comes: others see less. It changes nothing.
    Check(CheckArgs),
}

/// Arguments of `plfm host check`.
#[derive(Debug, Args)]
struct CheckArgs {
    /// Where the agent keeps instances
    #[arg(
        long,
        env = "PLFM_STATE_DIR",
        value_name = "DIR",
        default_value = "/var/lib/plfm-agent"
    )]
    state_dir: PathBuf,
    /// Whom a jailed Firecracker runs as, by numbers; the user plfm-vm, unless told
    #[arg(long, env = "PLFM_JAIL_USER", value_name = "UID:GID")]
    jail_user: Option<JailUser>,
}

/// The result of a check.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether instances can run.
    ready: bool,
    checks: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    state: &'static str,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl HostArgs {
    /// Runs the verb; the exit code tells a check's outcome.
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<ExitCode, CliError> {
        match self.command {
            None => instances::host(out, agent).map(|()| ExitCode::SUCCESS),
            Some(HostCommand::Check(args)) => args.run(out),
        }
    }
}

impl CheckArgs {
    fn run(self, out: &Output) -> Result<ExitCode, CliError> {
        let wish = VmmWish {
            vmm: VmmChoice::Auto,
            accelerator: AcceleratorChoice::Auto,
            jail: JailWish::Jailed {
                base: self.state_dir.join("jails"),
                user: self.jail_user,
                cgroup_parent: JAIL_CGROUP_DEFAULT.to_owned(),
            },
            probe: Some(ProbeCommand::this_program()),
        };
        let report = Report::new(HostFacts::probe(&wish, &self.state_dir).checks());
        out.result(&report, render_report)?;
        Ok(ExitCode::from(u8::from(!report.ready)))
    }
}

impl Report {
    fn new(checks: Vec<HostCheck>) -> Report {
        Report {
            ready: checks.iter().all(|check| check.state != CheckState::Missing),
            checks: checks
                .into_iter()
                .map(|check| Line {
                    what: check.what,
                    state: check.state.as_str(),
                    found: check.found,
                    fix: check.fix,
                })
                .collect(),
        }
    }
}

/// A table, then what to do, the most needed first.
fn render_report(report: &Report) -> String {
    let rows = report
        .checks
        .iter()
        .map(|line| [line.what.to_owned(), line.state.to_owned(), line.found.clone()]);
    let mut text = render_table(["CHECK", "STATE", "FOUND"], rows);
    let with = |state: CheckState| {
        let lines = report
            .checks
            .iter()
            .filter(move |line| line.state == state.as_str());
        lines.filter_map(|line| Some((line.what, line.fix.as_deref()?)))
    };
    let fixes: Vec<_> = with(CheckState::Missing).chain(with(CheckState::Warn)).collect();
    if !fixes.is_empty() {
        text.push_str("\nTo do:\n");
    }
    for (what, fix) in fixes {
        text.push_str(&format!("  {what}: {fix}\n"));
    }
    text.push_str(match report.ready {
        true => "\nInstances can run on this host.\n",
        false => "\nInstances can not run on this host yet.\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(what: &'static str, state: CheckState, found: &str, fix: Option<&str>) -> HostCheck {
        HostCheck {
            what,
            state,
            found: found.to_owned(),
            fix: fix.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_missing_is_to_be_done_first() {
        let report = Report::new(vec![
            check(
                "kvm",
                CheckState::Warn,
                "there is no /dev/kvm",
                Some("modprobe kvm_intel"),
            ),
            check("kernel", CheckState::Ok, "6.1.0", None),
            check(
                "mke2fs",
                CheckState::Missing,
                "not found",
                Some("install e2fsprogs"),
            ),
        ]);
        assert_eq!(
            render_report(&report),
            "CHECK   STATE    FOUND\n\
             kvm     warn     there is no /dev/kvm\n\
             kernel  ok       6.1.0\n\
             mke2fs  missing  not found\n\
             \n\
             To do:\n  mke2fs: install e2fsprogs\n  kvm: modprobe kvm_intel\n\
             \n\
             Instances can not run on this host yet.\n"
        );
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"ready":false,"checks":[{"what":"kvm","state":"warn","found":"there is no /dev/kvm","fix":"modprobe kvm_intel"},{"what":"kernel","state":"ok","found":"6.1.0"},{"what":"mke2fs","state":"missing","found":"not found","fix":"install e2fsprogs"}]}"#
        );
    }

    #[test]
    fn a_host_with_nothing_to_do_says_only_that() {
        let report = Report::new(vec![check("kernel", CheckState::Ok, "6.1.0", None)]);
        assert_eq!(
            render_report(&report),
            "CHECK   STATE  FOUND\nkernel  ok     6.1.0\n\nInstances can run on this host.\n"
        );
        assert!(report.ready);
    }
}
