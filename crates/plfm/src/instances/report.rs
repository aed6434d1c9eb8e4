//! A boot report as text.

use std::fmt::Write as _;

use plfm_api::{BootReport, Instance};

fn ms(us: u64) -> String {
    format!("{}.{:01} ms", us / 1_000, us % 1_000 / 100)
}

/// How the boot went, stage by stage.
pub fn render_boot(boot: &BootReport) -> String {
    let mut text = format!("boot of {}: {}\n", boot.release, boot.outcome.as_str());
    if let Some(selection) = &boot.selection {
        let _ = writeln!(text, "  chosen           {selection}");
    }
    if let Some(stage) = &boot.stage {
        let _ = writeln!(text, "  failed in stage  {stage}");
    }
    if let Some(reason) = &boot.reason {
        let errno = boot
            .errno
            .map(|errno| format!(" (errno {errno})"))
            .unwrap_or_default();
        let _ = writeln!(text, "  reason           {reason}{errno}");
    }
    if let Some(detail) = &boot.detail {
        let _ = writeln!(text, "  detail           {detail}");
    }
    let host = &boot.host;
    let mut previous = 0;
    let phases = [
        ("release verified", Some(host.verified_us)),
        ("disks and network", host.prepared_us),
        ("VM started", host.started_us),
        ("guest's hello", host.hello_us),
        ("ready or failed", host.settled_us),
    ];
    let _ = writeln!(text, "  {:<20}  {:>10}  {:>10}", "on the host", "took", "at");
    for (name, at) in phases {
        if let Some(at) = at {
            let _ = writeln!(
                text,
                "  {name:<20}  {:>10}  {:>10}",
                ms(at.saturating_sub(previous)),
                ms(at)
            );
            previous = at;
        }
    }
    if !boot.stages.is_empty() {
        let _ = writeln!(text, "  {:<20}  {:>10}  {:>10}", "in the guest", "took", "at");
    }
    for stage in &boot.stages {
        let took = stage.finished_us.saturating_sub(stage.started_us);
        let _ = writeln!(
            text,
            "  {:<20}  {:>10}  {:>10}",
            stage.stage,
            ms(took),
            ms(stage.finished_us)
        );
    }
    text
}

/// How an instance ended, in a few words.
pub fn render_exit(instance: &Instance) -> String {
    let Some(exit) = &instance.exit else {
        return instance
            .boot
            .as_ref()
            .map_or_else(String::new, |boot| match boot.outcome {
                plfm_api::BootOutcome::Ready => String::new(),
                outcome => outcome.as_str().to_owned(),
            });
    };
    let oom = if exit.oom_killed { ", out of memory" } else { "" };
    match (exit.exit_code, exit.signal) {
        (Some(code), _) => format!("exit {code}{oom}"),
        (None, Some(signal)) => format!("signal {signal}{oom}"),
        (None, None) => exit.reason.clone().unwrap_or_else(|| "unknown".to_owned()),
    }
}
