//! `plfm admin policy show`.

use plfm_api::control::CurrentPolicy;

use super::render::render_policy;
use crate::admin::Control;
use crate::output::CliError;

pub fn run(control: &Control) -> Result<(), CliError> {
    let current: CurrentPolicy = control.block_on(async |client| client.get(&["policy"], &[]).await)?;
    control.out.result(&current, |current| {
        format!(
            "policy in generation {}\n{}",
            current.generation,
            render_policy(&current.policy)
        )
    })
}
