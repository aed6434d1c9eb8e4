//! `plfm admin kernels list`.

use plfm_api::Items;
use plfm_api::control::{Kernel, Rollout};
use serde::Serialize;

use super::state::{render_boots, render_state};
use crate::admin::Control;
use crate::admin::rollout;
use crate::output::CliError;
use crate::table::{render_table, shorten};

/// Most of a reason that a table has room for, in characters. `show` has all of it.
const STATE_CHARS_MAX: usize = 60;

/// What `plfm admin kernels list` prints.
#[derive(Debug, Serialize)]
struct KernelList {
    #[serde(flatten)]
    kernels: Items<Kernel>,
    /// The rollout that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<Rollout>,
}

pub fn run(control: &Control) -> Result<(), CliError> {
    let list = control.block_on(async |client| {
        let items = client.list(&["kernels"], &[]).await?;
        let rollout = rollout::under_way(client).await?;
        Ok(KernelList {
            kernels: Items { items },
            rollout,
        })
    })?;
    control
        .out
        .result(&list, |list| render(&list.kernels.items, list.rollout.as_ref()))
}

fn render(kernels: &[Kernel], rollout: Option<&Rollout>) -> String {
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
            shorten(&state(kernel, rollout), STATE_CHARS_MAX),
        ]
    });
    render_table(header, rows)
}

/// What it is to the fleet; of what is being rolled out, how far that is.
fn state(kernel: &Kernel, rollout: Option<&Rollout>) -> String {
    let state = render_state(&kernel.state);
    match rollout.filter(|rollout| rollout.release == kernel.release) {
        Some(rollout) => format!("{state}; rollout: {}", rollout::state::render_state(rollout)),
        None => state,
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
        insta::assert_snapshot!(render(&kernels, None));
    }

    #[test]
    fn what_is_being_rolled_out_says_how_far_it_is() {
        let rollout = rollout::state::tests::rollout();
        let candidate = Kernel {
            release: rollout.release.clone(),
            state: KernelState::Canary { weight: 525 },
            ..kernel()
        };
        let states = [candidate, kernel()].map(|kernel| state(&kernel, Some(&rollout)));
        assert_eq!(
            states,
            [
                "canary at 5.25%; rollout: canary, wave 2 of 5 at 5.25%",
                "available"
            ]
        );
    }
}
