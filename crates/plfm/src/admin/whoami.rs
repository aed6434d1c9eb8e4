//! `plfm admin whoami`.

use plfm_api::control::Whoami;
use serde::Serialize;

use super::Control;
use crate::output::{CliError, render_fields};
use crate::times::render_time;

/// What `plfm admin whoami` prints.
#[derive(Debug, Serialize)]
struct WhoamiReport {
    #[serde(flatten)]
    whoami: Whoami,
    /// To which control plane.
    control: String,
}

pub fn run(control: &Control) -> Result<(), CliError> {
    let report = WhoamiReport {
        control: control.connection()?.url.to_string(),
        whoami: control.block_on(async |client| client.get(&["whoami"], &[]).await)?,
    };
    control.out.result(&report, |report| {
        let whoami = &report.whoami;
        let fields = [
            ("id", whoami.id.clone()),
            ("role", whoami.role.as_str().to_owned()),
            ("expires", render_time(whoami.expires_at)),
            ("control", report.control.clone()),
        ];
        format!("{}\n{}", whoami.name, render_fields(&fields))
    })
}
