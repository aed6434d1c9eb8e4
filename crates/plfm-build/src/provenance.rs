//! Where a release came from, signed: an in-toto Statement (v1) with a SLSA provenance predicate (v1), in a DSSE
//! envelope.
//!
//! It holds no time but the epoch, so it is as reproducible as what it speaks of.

use std::collections::BTreeMap;

use plfm_release::dsse::{DsseError, Envelope};
use plfm_release::{JsonError, Manifest, PublicKey, Sha256Digest, SigningKey, parse_strict_json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::fault::fault_in;
use crate::inputs::BuildInputs;
use crate::json::render_json;

/// The type of a statement inside an envelope.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// Names the meaning of the parameters below; changed when that changes.
const BUILD_TYPE: &str = "urn:plfm:release-build:v1";

/// Largest provenance taken, in bytes; a real one has a few KiB.
pub const PROVENANCE_BYTES_MAX: usize = 1 << 20;

/// Why a provenance is not that of a release.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    /// The envelope is not to be trusted.
    #[error("the provenance is not to be trusted")]
    Envelope(#[source] DsseError),
    /// The statement is not JSON.
    #[error("the provenance's statement is not acceptable JSON")]
    Json(#[source] JsonError),
    /// A member is missing or malformed.
    #[error("the provenance's statement has a missing or malformed member")]
    Shape(#[source] serde_json::Error),
    /// It states something else.
    #[error("the provenance is a {found:?}, not a {expected:?}")]
    WrongType {
        /// What it is.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// It is about other files.
    #[error("the provenance is about {found}, not about {expected}")]
    WrongSubject {
        /// Names and digests in it.
        found: String,
        /// Names and digests of the release.
        expected: String,
    },
}

impl ProvenanceError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Envelope(DsseError::BadSignature(_)) => "provenance_bad_signature",
            Self::Envelope(_) | Self::Json(_) | Self::Shape(_) | Self::WrongType { .. } => {
                "provenance_malformed"
            }
            Self::WrongSubject { .. } => "provenance_wrong_subject",
        }
    }
}

/// The part of a statement that a verifier reads.
#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Descriptor>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

/// A resource descriptor: a name and a digest.
#[derive(Serialize, Deserialize)]
struct Descriptor {
    name: String,
    digest: Digests,
}

#[derive(Serialize, Deserialize)]
struct Digests {
    sha256: Sha256Digest,
}

fn descriptor(name: &str, sha256: Sha256Digest) -> Descriptor {
    Descriptor {
        name: name.to_owned(),
        digest: Digests { sha256 },
    }
}

/// The names and digests that a release's provenance is about.
fn subjects(manifest: &Manifest) -> BTreeMap<String, Sha256Digest> {
    manifest
        .artifacts()
        .into_iter()
        .map(|artifact| (artifact.name.to_string(), artifact.sha256))
        .collect()
}

/// The signed provenance of `manifest`, which was made from `inputs`.
pub(crate) fn attest(manifest: &Manifest, inputs: &BuildInputs, key: &SigningKey) -> Vec<u8> {
    let subject: Vec<_> = subjects(manifest)
        .iter()
        .map(|(name, sha256)| descriptor(name, *sha256))
        .collect();
    let statement = json!({
        "_type": STATEMENT_TYPE,
        "subject": subject,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": build_definition(manifest, inputs),
            "runDetails": {
                "builder": { "id": format!("urn:plfm:plfm-build:{}", env!("CARGO_PKG_VERSION")) },
                "byproducts": [descriptor("kernel.config", manifest.kernel.config_sha256)],
            },
        },
    });
    let envelope = Envelope::seal(PAYLOAD_TYPE, &render_json(&statement), [key]);
    // Only texts: the serializer has nothing to fail on.
    render_json(&serde_json::to_value(envelope).unwrap_or_default())
}

fn build_definition(manifest: &Manifest, inputs: &BuildInputs) -> Value {
    let mut dependencies: Vec<Value> = inputs
        .recorded()
        .iter()
        .map(|input| json!(descriptor(&input.name, input.sha256)))
        .collect();
    if let Some(checkout) = &inputs.checkout {
        dependencies.push(json!({ "name": "plfm", "digest": { "gitCommit": checkout.git_sha } }));
    }
    let mut definition = json!({
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "channel": manifest.channel,
            "arch": manifest.arch,
            "variant": manifest.variant,
            "epoch": inputs.epoch.seconds(),
            "kernel_version": manifest.kernel.version,
            "kernel_build_id": manifest.kernel.build_id,
            "guest_init_version": manifest.initramfs.guest_init_version,
            "guest_init_protocol": manifest.initramfs.guest_init_protocol,
            "initramfs_build_id": manifest.initramfs.build_id,
            "compatibility": manifest.compatibility,
            "gzip_level": inputs.gzip_level.get(),
            "busybox": inputs.busybox.is_some(),
            "ca_bundle": inputs.ca_bundle.is_some(),
        },
        "internalParameters": {
            "kernel_recipe": inputs.kernel.record.recipe,
            "kernel_inputs_sha256": inputs.kernel.record.digest(),
            "kernel_tools": inputs.kernel.record.tools,
            "guest_init_toolchain": inputs.guest_init.record,
            "source": manifest.source,
        },
        "resolvedDependencies": dependencies,
    });
    // Only where there is one: what is good says nothing of faults.
    if let Some(fault) = fault_in(&inputs.guest_init.program)
        && let Some(parameters) = definition
            .get_mut("externalParameters")
            .and_then(Value::as_object_mut)
    {
        parameters.insert("guest_init_fault".to_owned(), fault.into());
    }
    definition
}

/// Checks that `bytes` is the provenance of `manifest`, signed with `key`.
///
/// # Errors
/// [`ProvenanceError`].
pub fn check_provenance(bytes: &[u8], manifest: &Manifest, key: &PublicKey) -> Result<(), ProvenanceError> {
    let payload = Envelope::parse(bytes)
        .and_then(|envelope| envelope.open(PAYLOAD_TYPE, key))
        .map_err(ProvenanceError::Envelope)?;
    let document = parse_strict_json(&payload).map_err(ProvenanceError::Json)?;
    let statement: Statement = serde_json::from_value(document).map_err(ProvenanceError::Shape)?;
    let types = [
        (statement.statement_type, STATEMENT_TYPE),
        (statement.predicate_type, PREDICATE_TYPE),
    ];
    for (found, expected) in types {
        if found != expected {
            return Err(ProvenanceError::WrongType { found, expected });
        }
    }
    let count = statement.subject.len();
    let found: BTreeMap<_, _> = statement
        .subject
        .into_iter()
        .map(|s| (s.name, s.digest.sha256))
        .collect();
    let expected = subjects(manifest);
    if found == expected && count == expected.len() {
        return Ok(());
    }
    Err(ProvenanceError::WrongSubject {
        found: render_subjects(&found),
        expected: render_subjects(&expected),
    })
}

fn render_subjects(subjects: &BTreeMap<String, Sha256Digest>) -> String {
    let text = |(name, sha256): (&String, &Sha256Digest)| format!("{name} (sha256 {sha256})");
    subjects
        .iter()
        .take(4)
        .map(text)
        .collect::<Vec<_>>()
        .join(" and ")
}
