//! `plfm release show`: what a manifest says, and whether anybody checked that.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use plfm_build::{VerifyDirError, load_manifest};
use plfm_release::{KeyId, Manifest, SignedManifest, VerifyPolicy};
use serde::Serialize;
use serde_json::Value;

use super::keyring_file;
use super::verify::{ArtifactReport, refusal};
use crate::output::{CliError, Output, render_fields};

/// Arguments of `plfm release show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Directory of the release, or its manifest.json
    path: PathBuf,
    /// Check the signature with the keys of this keyring
    #[arg(long, value_name = "FILE", env = "PLFM_KEYRING")]
    keyring: Option<PathBuf>,
}

/// What `plfm release show` prints.
#[derive(Debug, Serialize)]
struct ShowReport {
    release_id: String,
    signature: Signature,
    manifest: Value,
    #[serde(skip)]
    read: Manifest,
}

#[derive(Debug, Serialize)]
struct Signature {
    /// Whether the signature was checked, and is good: a bad one is an error.
    checked: bool,
    key_id: KeyId,
}

impl ShowArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let signed = load_manifest(&self.path).map_err(refusal)?;
        let checked = match &self.keyring {
            Some(path) => {
                let keyring = keyring_file::load(path)?;
                self.check(&keyring, signed.clone())?;
                true
            }
            None => false,
        };
        let read = signed.untrusted().clone();
        let report = ShowReport {
            release_id: read.release_id().to_string(),
            signature: Signature {
                checked,
                key_id: signed.key_id(),
            },
            manifest: signed.document().clone(),
            read,
        };
        out.result(&report, render)
    }

    /// Checks the signature for whatever channel and machine the manifest is for: this only shows it.
    fn check(&self, keyring: &plfm_release::Keyring, signed: SignedManifest) -> Result<(), CliError> {
        let manifest = signed.untrusted();
        let policy = VerifyPolicy {
            channel: manifest.channel.clone(),
            arch: manifest.arch,
            at: Timestamp::now(),
        };
        let verified = keyring.verify(signed, &policy);
        verified.map(|_| ()).map_err(|source| {
            refusal(VerifyDirError::Untrusted {
                path: self.path.clone(),
                source,
            })
        })
    }
}

fn render(report: &ShowReport) -> String {
    let manifest = &report.read;
    let key_id = report.signature.key_id;
    let signature = if report.signature.checked {
        format!("good, key {key_id}")
    } else {
        format!("NOT CHECKED (says key {key_id}); pass --keyring to check it")
    };
    let protocols = manifest
        .compatibility
        .supported_protocols
        .iter()
        .map(ToString::to_string);
    let protocols = protocols.collect::<Vec<_>>().join(", ");
    let source = &manifest.source;
    let commit = source.git_sha.as_deref().unwrap_or("unknown commit");
    let state = if source.dirty { " with changes" } else { "" };
    let artifacts = ArtifactReport::of(manifest);
    let mut fields = vec![
        ("signature", signature),
        (
            "channel",
            format!("{} ({}, {})", manifest.channel, manifest.variant, manifest.arch),
        ),
    ];
    fields.extend(artifacts.iter().map(ArtifactReport::field));
    fields.extend([
        ("format", manifest.kernel.format.to_string()),
        ("config", format!("sha256:{}", manifest.kernel.config_sha256)),
        (
            "guest init",
            format!("protocol {}", manifest.initramfs.guest_init_protocol),
        ),
        (
            "agent",
            format!(
                "{} or later, protocols {protocols}",
                manifest.compatibility.min_agent_version
            ),
        ),
        ("source", format!("{commit}{state}, {}", source.timestamp)),
    ]);
    let artifacts_note = "  (the artifacts themselves: `plfm release verify`)\n";
    format!(
        "release {}\n{}{artifacts_note}",
        report.release_id,
        render_fields(&fields)
    )
}
