//! `plfm release verify`: whether a release may be used.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use plfm_build::{ProvenanceStatus, VerifiedRelease, VerifyDirError, verify_dir};
use plfm_release::{Architecture, Channel, VerifyPolicy};
use serde::Serialize;

use super::keyring_file;
use crate::output::{Category, CliError, Output, render_fields, render_size};

/// Arguments of `plfm release verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Directory of the release
    dir: PathBuf,
    /// Keyring with the keys that are trusted
    #[arg(long, value_name = "FILE", env = "PLFM_KEYRING")]
    keyring: PathBuf,
    /// Channel that the release must be for
    #[arg(long, default_value = "production")]
    channel: Channel,
    /// Moment at which the signing key must be valid, such as 2026-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

/// What `plfm release verify` prints.
#[derive(Debug, Serialize)]
struct VerifyReport {
    verified: bool,
    release_id: String,
    channel: String,
    arch: String,
    key_id: String,
    artifacts: Vec<ArtifactReport>,
    provenance: &'static str,
}

/// An artifact in a report.
#[derive(Debug, Serialize)]
pub(super) struct ArtifactReport {
    kind: String,
    name: String,
    size_bytes: u64,
    sha256: String,
}

impl ArtifactReport {
    /// The artifacts of a manifest.
    pub fn of(manifest: &plfm_release::Manifest) -> Vec<Self> {
        let report = |artifact: plfm_release::Artifact| Self {
            kind: artifact.kind.to_string(),
            name: artifact.name.to_string(),
            size_bytes: artifact.size_bytes,
            sha256: artifact.sha256.to_string(),
        };
        manifest.artifacts().map(report).into()
    }

    /// Label and text for people.
    pub fn field(&self) -> (&str, String) {
        (
            &self.kind,
            format!(
                "{}  {}  sha256:{}",
                self.name,
                render_size(self.size_bytes),
                self.sha256
            ),
        )
    }
}

impl VerifyArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let keyring = keyring_file::load(&self.keyring)?;
        let policy = VerifyPolicy {
            channel: self.channel,
            arch: Architecture::X86_64,
            at: self.at.unwrap_or_else(Timestamp::now),
        };
        let verified = verify_dir(&self.dir, &keyring, &policy).map_err(refusal)?;
        out.result(&report(&verified), render)
    }
}

/// A release that was refused: always the same exit code, whatever the reason.
pub(super) fn refusal(error: VerifyDirError) -> CliError {
    CliError::from_error(Category::Failure, error.code(), &error).with_hint(error.hint())
}

fn report(verified: &VerifiedRelease) -> VerifyReport {
    let manifest = verified.manifest.manifest();
    VerifyReport {
        verified: true,
        release_id: manifest.release_id().to_string(),
        channel: manifest.channel.to_string(),
        arch: manifest.arch.to_string(),
        key_id: verified.manifest.key_id().to_string(),
        artifacts: ArtifactReport::of(manifest),
        provenance: match verified.provenance {
            ProvenanceStatus::Absent => "absent",
            ProvenanceStatus::Signed => "signed",
        },
    }
}

fn render(report: &VerifyReport) -> String {
    let mut fields: Vec<(&str, String)> = report.artifacts.iter().map(ArtifactReport::field).collect();
    fields.push(("signature", format!("good, key {}", report.key_id)));
    let provenance = match report.provenance {
        "signed" => "good, same key, about these artifacts",
        _ => "absent",
    };
    fields.push(("provenance", provenance.to_owned()));
    let title = format!(
        "verified {} for {} on {}\n",
        report.release_id, report.channel, report.arch
    );
    title + &render_fields(&fields)
}
