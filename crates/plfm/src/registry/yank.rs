//! `plfm registry yank`.

use clap::Args;
use plfm_registry::releases::Yanked;
use plfm_release::ReleaseId;

use super::{Address, OnlineArgs, block_on, refusal};
use crate::output::{Category, CliError, Output, render_fields};

/// Arguments of `plfm registry yank`.
#[derive(Debug, Args)]
pub struct YankArgs {
    /// The release's id, a label, or a build id that only one release has
    release: String,
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    online: OnlineArgs,
    /// Why, for whoever looks for it
    #[arg(long)]
    reason: String,
}

impl YankArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let signer = self.online.signer()?;
        let yanked = block_on(async {
            let mut repository = self.address.open(Some(&self.online.keys)).await?;
            let offered = repository.releases().into_iter().map(|release| release.id);
            let yanked = repository.yanked().into_iter().map(|release| release.id);
            let id = find(offered.chain(yanked), &self.release)?;
            repository
                .yank(&id, &self.reason, &signer.signing())
                .await
                .map_err(refusal)
        })?;
        out.result(&yanked, render)
    }
}

/// The one release that `text` means.
fn find(releases: impl Iterator<Item = ReleaseId>, text: &str) -> Result<ReleaseId, CliError> {
    let mut matching = releases.filter(|id| id.matches(text));
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(id),
        (Some(one), Some(other)) => {
            let message = format!("{text:?} may mean {one} or {other}");
            Err(CliError::new(Category::Usage, "release_ambiguous", message)
                .with_hint(Some("give the whole id".to_owned())))
        }
        (None, _) => {
            let message = format!("the registry has no release {text:?}");
            Err(CliError::new(Category::NotFound, "no_such_release", message)
                .with_hint(Some("look at the releases with `plfm registry list`".to_owned())))
        }
    }
}

fn render(yanked: &Yanked) -> String {
    let verb = if yanked.already {
        "was yanked already"
    } else {
        "yanked"
    };
    let mut fields = vec![("at", yanked.at.to_string()), ("reason", yanked.reason.clone())];
    if !yanked.already {
        fields.push(("removed", format!("{} targets", yanked.removed.len())));
    }
    if !yanked.shared.is_empty() {
        fields.push((
            "stays",
            format!("{} (another release has it)", yanked.shared.join(", ")),
        ));
    }
    fields.push((
        "hosts",
        "that have it keep it; to stop them, block it or revoke its key".to_owned(),
    ));
    fields.push(("undo", "none: build it anew with another build id".to_owned()));
    format!("release {} {verb}\n{}", yanked.release, render_fields(&fields))
}
