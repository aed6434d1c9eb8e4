//! `plfm admin kernels list`.

use plfm_api::Items;
use plfm_api::control::Kernel;

use super::state::{render_boots, render_state};
use crate::admin::Control;
use crate::output::CliError;
use crate::table::render_table;

/// Most of a reason that a table has room for, in characters. `show` has all of it.
const STATE_CHARS_MAX: usize = 60;

pub fn run(control: &Control) -> Result<(), CliError> {
    let items: Vec<Kernel> = control.block_on(async |client| client.list(&["kernels"], &[]).await)?;
    control.out.result(&Items { items }, |list| render(&list.items))
}

fn render(kernels: &[Kernel]) -> String {
    if kernels.is_empty() {
        return "no releases; the control plane finds them in its registry\n".to_owned();
    }
    let header = [
        "RELEASE",
        "KERNEL",
        "INIT",
        "PROTOCOL",
        "HOSTS",
        "INSTANCES",
        "BOOTS",
        "STATE",
    ];
    let rows = kernels.iter().map(|kernel| {
        [
            kernel.release.to_string(),
            kernel.kernel.version.to_string(),
            kernel.guest_init_version.to_string(),
            kernel.protocol.to_string(),
            format!("{}/{}", kernel.hosts, kernel.hosts_active),
            kernel.instances.to_string(),
            render_boots(kernel),
            shorten(&render_state(&kernel.state)),
        ]
    });
    render_table(header, rows)
}

fn shorten(text: &str) -> String {
    match text.chars().count() > STATE_CHARS_MAX {
        true => text.chars().take(STATE_CHARS_MAX - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use plfm_api::control::KernelState;

    use super::super::state::tests::kernel;
    use super::*;

    #[test]
    fn every_state_has_words_and_a_long_reason_does_not_break_the_table() {
        let reason = || "x".repeat(100);
        let states = [
            KernelState::Default,
            KernelState::Canary { weight: 525 },
            KernelState::Previous,
            KernelState::Available,
            KernelState::Blocked {
                reason: "line\nbreak".to_owned(),
            },
            KernelState::RolledBack { reason: reason() },
            KernelState::Withdrawn {
                reason: "its key was revoked".to_owned(),
            },
        ];
        let kernels: Vec<Kernel> = states
            .into_iter()
            .map(|state| Kernel { state, ..kernel() })
            .collect();
        insta::assert_snapshot!(render(&kernels));
    }
}
