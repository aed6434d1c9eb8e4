//! `plfm admin rollout list`.

use plfm_api::Items;
use plfm_api::control::Rollout;

use super::state::render_state;
use crate::admin::Control;
use crate::output::CliError;
use crate::table::{render_table, shorten};
use crate::times::render_time;

/// Most of a reason that a table has room for, in characters. `show` has all of it.
const WHY_CHARS_MAX: usize = 60;

pub fn run(control: &Control) -> Result<(), CliError> {
    let items: Vec<Rollout> = control.block_on(async |client| client.list(&["rollouts"], &[]).await)?;
    control.out.result(&Items { items }, |list| render(&list.items))
}

fn render(rollouts: &[Rollout]) -> String {
    if rollouts.is_empty() {
        return "no rollouts; `plfm admin rollout start` begins one\n".to_owned();
    }
    let header = ["ROLLOUT", "RELEASE", "STARTED", "BY", "ENDED", "STATE", "WHY"];
    let rows = rollouts.iter().map(|rollout| {
        [
            rollout.id.clone(),
            rollout.release.to_string(),
            render_time(rollout.started_at),
            rollout.started_by.clone(),
            rollout.ended_at.map(render_time).unwrap_or_default(),
            render_state(rollout),
            shorten(&rollout.why, WHY_CHARS_MAX),
        ]
    });
    render_table(header, rows)
}
