//! `plfm registry gc`.

use std::path::PathBuf;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use plfm_registry::gc::{GRACE_DEFAULT, GRACE_MIN, Garbage};
use serde::Serialize;

use super::{Address, block_on, refusal};
use crate::output::{CliError, Output, render_size};

/// Arguments of `plfm registry gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    #[command(flatten)]
    address: Address,
    /// Directory with root.json, where --root is not given
    #[arg(long, value_name = "DIR", env = "PLFM_REGISTRY_KEYS")]
    keys: Option<PathBuf>,
    /// How long a file stays after nothing led to it any more
    #[arg(long, value_name = "DAYS", default_value_t = GRACE_DEFAULT.as_hours() / 24, value_parser = clap::value_parser!(i64).range(GRACE_MIN.as_hours() / 24..=3650))]
    grace_days: i64,
    /// Remove the files, instead of only showing them
    #[arg(long)]
    yes: bool,
}

/// What `plfm registry gc` prints.
#[derive(Debug, Serialize)]
struct GcReport {
    #[serde(flatten)]
    garbage: Garbage,
    removed: Option<usize>,
}

impl GcArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let grace = SignedDuration::from_hours(24 * self.grace_days);
        let report = block_on(async {
            let repository = self.address.open(self.keys.as_deref()).await?;
            let garbage = repository
                .find_garbage(Timestamp::now(), grace)
                .await
                .map_err(refusal)?;
            let removed = match self.yes {
                true => Some(repository.remove_garbage(&garbage).await.map_err(refusal)?),
                false => None,
            };
            Ok(GcReport { garbage, removed })
        })?;
        out.result(&report, render)
    }
}

fn render(report: &GcReport) -> String {
    let garbage = &report.garbage;
    let mut text: String = garbage
        .files
        .iter()
        .map(|file| {
            format!(
                "{}  {}  put {}\n",
                file.name,
                render_size(file.size_bytes),
                file.modified
            )
        })
        .collect();
    let size = render_size(garbage.size_bytes);
    text += &match report.removed {
        Some(removed) => format!("removed {removed} files, {size}; {} stay\n", garbage.kept),
        None if garbage.files.is_empty() => format!("nothing to remove; {} files stay\n", garbage.kept),
        None => format!(
            "{} files, {size} could be removed, {} stay; to remove them: --yes\n",
            garbage.files.len(),
            garbage.kept
        ),
    };
    text
}
