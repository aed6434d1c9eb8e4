//! `plfm admin whoami`.

use plfm_api::control::Whoami;

use super::Control;
use crate::output::{CliError, render_fields};
use crate::times::render_time;

pub fn run(control: &Control) -> Result<(), CliError> {
    let whoami: Whoami = control.block_on(async |client| client.get(&["whoami"], &[]).await)?;
    control.out.result(&whoami, |whoami| {
        let fields = [
            ("id", whoami.id.clone()),
            ("role", whoami.role.as_str().to_owned()),
            ("expires", render_time(whoami.expires_at)),
        ];
        format!("{}\n{}", whoami.name, render_fields(&fields))
    })
}
