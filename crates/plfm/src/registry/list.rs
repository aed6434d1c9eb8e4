//! `plfm registry list`.

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use plfm_registry::releases::{ListedRole, Listing};
use std::path::PathBuf;

use super::{Address, block_on, refusal};
use crate::output::{CliError, Output, render_size};
use crate::table::render_table;

/// How long before a role ends a warning is given: the time to call people together.
const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Arguments of `plfm registry list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    address: Address,
    /// Directory with root.json, where --root is not given
    #[arg(long, value_name = "DIR", env = "PLFM_REGISTRY_KEYS")]
    keys: Option<PathBuf>,
}

impl ListArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let now = Timestamp::now();
        let listing = block_on(async {
            let repository = self.address.open(self.keys.as_deref()).await?;
            repository.listing(now).await.map_err(refusal)
        })?;
        out.result(&listing, |listing| render(listing, now))
    }
}

fn render(listing: &Listing, now: Timestamp) -> String {
    let mut rows = Vec::new();
    for listed in &listing.releases {
        let release = &listed.release;
        let state = if listed.key_revoked {
            "refused: its key is revoked"
        } else {
            "offered"
        };
        rows.push([
            release.id.to_string(),
            release.channel.to_string(),
            render_size(listed.size_bytes),
            short(&release.key_id.to_string()),
            release.published_at.to_string(),
            state.to_owned(),
        ]);
    }
    for yanked in &listing.yanked {
        rows.push([
            yanked.id.to_string(),
            String::new(),
            String::new(),
            String::new(),
            yanked.published_at.to_string(),
            format!("yanked {}: {}", yanked.at, yanked.reason),
        ]);
    }
    let releases = match rows.is_empty() {
        true => "no releases\n".to_owned(),
        false => render_table(["RELEASE", "CHANNEL", "SIZE", "KEY", "PUBLISHED", "STATE"], rows),
    };
    let roles = listing.roles.iter().map(|role| role_row(role, now));
    let roles = render_table(["ROLE", "VERSION", "KEYS", "EXPIRES", "STATE"], roles);
    format!("{releases}\n{roles}keyring version {}\n", listing.keyring_version)
}

fn role_row(role: &ListedRole, now: Timestamp) -> [String; 5] {
    let soon = role.role == plfm_registry::RoleName::Root
        && now.checked_add(WARN_BEFORE).is_ok_and(|soon| role.expires < soon);
    let state = match (role.expired, soon) {
        (true, _) => "EXPIRED: hosts take nothing",
        (false, true) => "ends soon: `plfm registry rotate-root`",
        (false, false) => "good",
    };
    [
        role.role.to_string(),
        role.version.to_string(),
        format!("{} of {}", role.threshold, role.keys.len()),
        role.expires.to_string(),
        state.to_owned(),
    ]
}

fn short(id: &str) -> String {
    id.chars().take(16).collect()
}
