//! `plfm admin fleet`: what the fleet is told, and how far it is.

use std::collections::BTreeMap;

use plfm_api::control::Fleet;

use super::Control;
use super::policy::render::{render_canary, render_pins, render_releases, render_window};
use super::wait::Progress;
use crate::output::{CliError, render_fields};

pub fn run(control: &Control) -> Result<(), CliError> {
    let fleet: Fleet = control.block_on(async |client| client.get(&["fleet"], &[]).await)?;
    control.out.result(&fleet, render)
}

fn render(fleet: &Fleet) -> String {
    let target = &fleet.target;
    let progress = Progress::of(fleet);
    let none = || "none".to_owned();
    let of_active = |hosts: u64| format!("{hosts} of {} active", progress.hosts_active);
    let fields = [
        ("generation", target.generation.to_string()),
        (
            "default",
            target.default.as_ref().map_or_else(
                || "none: hosts go on with what they have".to_owned(),
                ToString::to_string,
            ),
        ),
        (
            "previous",
            target.previous.as_ref().map_or_else(none, ToString::to_string),
        ),
        ("canary", render_canary(target.canary.as_ref())),
        ("pins", render_pins(&target.pins)),
        ("prefetch", render_releases(&target.prefetch)),
        ("blocked", render_releases(&target.blocked)),
        ("window", render_window(target.window.as_ref())),
        ("hosts", render_hosts(&fleet.hosts)),
        ("at generation", of_active(fleet.hosts_at_generation)),
        ("have default", of_active(fleet.hosts_with_default)),
        ("boot default", of_active(fleet.hosts_at_default)),
    ];
    format!("fleet\n{}", render_fields(&fields))
}

fn render_hosts(hosts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = hosts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    match counts.is_empty() {
        true => "none".to_owned(),
        false => counts.join(", "),
    }
}
