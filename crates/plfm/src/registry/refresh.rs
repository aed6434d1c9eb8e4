//! `plfm registry refresh`.

use clap::Args;
use plfm_registry::RoleName;
use plfm_registry::refresh::{RefreshWhat, Refreshed};

use super::{Address, OnlineArgs, block_on, refusal};
use crate::output::{CliError, Output, render_fields};

/// Arguments of `plfm registry refresh`.
#[derive(Debug, Args)]
pub struct RefreshArgs {
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    online: OnlineArgs,
    /// Sign what is not due too
    #[arg(long)]
    force: bool,
}

impl RefreshArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let signer = self.online.signer()?;
        let what = if self.force {
            RefreshWhat::Everything
        } else {
            RefreshWhat::Due
        };
        let refreshed = block_on(async {
            let mut repository = self.address.open(Some(&self.online.keys)).await?;
            repository.refresh(what, &signer.signing()).await.map_err(refusal)
        })?;
        out.result(&refreshed, render)
    }
}

fn names(roles: &[RoleName]) -> String {
    roles
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn render(refreshed: &Refreshed) -> String {
    let title = match refreshed.signed.as_slice() {
        [] => "nothing is due\n".to_owned(),
        signed => format!("signed {}\n", names(signed)),
    };
    let mut fields = vec![
        ("next due", refreshed.next_due.to_string()),
        ("ends", format!("{} if nothing is done", refreshed.ends)),
    ];
    if !refreshed.due_without_key.is_empty() {
        let due = names(&refreshed.due_without_key);
        fields.push(("warning", format!("{due} is due, and its key is not here")));
    }
    title + &render_fields(&fields)
}
