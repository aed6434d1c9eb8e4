//! `plfm release publish`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use plfm_build::{MANIFEST_FILE, PROVENANCE_FILE, load_manifest, verify_dir};
use plfm_registry::publish::{Published, PublishedTarget, ReleaseFiles};
use plfm_release::{ArtifactKind, Manifest, VerifyPolicy};

use super::verify::refusal as release_refusal;
use crate::output::{Category, CliError, Output, render_fields, render_size};
use crate::registry::{Address, OnlineArgs, block_on, refusal};

/// File name of a bill of materials in a release's directory.
const SBOM_FILE: &str = "sbom.cdx.json";

/// Arguments of `plfm release publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Directory of the release
    directory: PathBuf,
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    online: OnlineArgs,
}

impl PublishArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let signer = self.online.signer()?;
        let published = block_on(async {
            let mut repository = self.address.open(Some(&self.online.keys)).await?;
            // What hosts will trust, not what the publisher does.
            let keyring = repository.keyring().await.map_err(refusal)?.into_keyring();
            let untrusted = load_manifest(&self.directory).map_err(release_refusal)?;
            let policy = VerifyPolicy {
                channel: untrusted.untrusted().channel.clone(),
                arch: untrusted.untrusted().arch,
                at: signer.now,
            };
            let verified = verify_dir(&self.directory, &keyring, &policy).map_err(|error| {
                let hint = "hosts would refuse it: sign it with a key of the registry's keyring, or trust its key with \
                            `plfm registry trust KEY.pub.pem`";
                let unknown = error.code() == "manifest_unknown_key";
                let refused = release_refusal(error);
                if unknown { refused.with_hint(Some(hint.to_owned())) } else { refused }
            })?;
            let files = read_files(&self.directory, verified.manifest.manifest())?;
            repository
                .publish(&files, &signer.signing())
                .await
                .map_err(refusal)
        })?;
        out.result(&published, render)
    }
}

fn read_files(dir: &Path, manifest: &Manifest) -> Result<ReleaseFiles, CliError> {
    let required = |name: &str| {
        read(dir, name)?.ok_or_else(|| {
            let message = format!("{} is missing", dir.join(name).display());
            CliError::new(Category::NotFound, "artifact_missing", message)
        })
    };
    let artifact = |kind| required(&manifest.artifact(kind).name.to_string());
    Ok(ReleaseFiles {
        manifest: required(MANIFEST_FILE)?,
        kernel: artifact(ArtifactKind::Kernel)?,
        initramfs: artifact(ArtifactKind::Initramfs)?,
        provenance: read(dir, PROVENANCE_FILE)?,
        sbom: read(dir, SBOM_FILE)?,
    })
}

fn read(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, CliError> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            Err(CliError::new(Category::Failure, "release_unreadable", message))
        }
    }
}

fn render(published: &Published) -> String {
    let row = |target: &PublishedTarget| {
        format!(
            "{}  {}  sha256:{}",
            target.name,
            render_size(target.size_bytes),
            target.sha256
        )
    };
    let mut fields: Vec<_> = published
        .added
        .iter()
        .map(|target| ("added", row(target)))
        .collect();
    fields.extend(published.kept.iter().map(|target| ("was there", row(target))));
    let title = if published.added.is_empty() {
        format!("{} was published already\n", published.release)
    } else {
        let (before, after) = (published.targets_version_before, published.targets_version);
        fields.push(("targets", format!("version {after}, was {before}")));
        fields.push(("watch", "`plfm registry list`".to_owned()));
        fields.push((
            "undo",
            format!("`plfm registry yank {} --reason …`", published.release),
        ));
        format!("published {}\n", published.release)
    };
    title + &render_fields(&fields)
}
