use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use plfm_release::{DigestParseError, Sha256Digest};
use serde::{Deserialize, Serialize};

use crate::Problem;

/// The digest of an image, as people who work with images write it: `sha256:<64 hex digits>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest(pub Sha256Digest);

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for ImageDigest {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("sha256:").unwrap_or(text).parse().map(Self)
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = DigestParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> Self {
        digest.to_string()
    }
}

/// When an image's registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// If the host does not have what the name meant when it was last asked.
    #[default]
    Missing,
    /// In any case: a tag may have moved. What is here of the image is not fetched again.
    Always,
    /// Not at all: what the host does not have is refused.
    Never,
}

/// Brings an image to the host and makes a root disk of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullImage {
    /// Which: `oci:DIR[:NAME]`, `docker-archive:FILE[:NAME]` (absolute paths) or a registry's reference.
    pub image: String,
    /// Whether its registry is asked.
    #[serde(default)]
    pub pull: PullPolicy,
}

/// What a pull is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullStep {
    /// It waits for its turn, or for another pull of the same.
    Waiting,
    /// It finds out which image the name means.
    Resolving,
    /// A layer comes from the registry.
    Fetching,
    /// A layer is checked and unpacked.
    Unpacking,
    /// The disk is written.
    Writing,
}

/// How far a pull has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// What it is at.
    pub step: PullStep,
    /// The layer, from 1; 0 for what belongs to no layer.
    pub layer: usize,
    /// Layers of the image; 0 if that is not known yet.
    pub layers: usize,
    /// Bytes of the layer that are here.
    pub bytes_done: u64,
    /// Bytes that it has; 0 if that is not counted.
    pub bytes_total: u64,
}

/// One line of a pull's answer. The last one is `done` or `failed`, none comes after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PullEvent {
    /// It got further.
    Progress(PullProgress),
    /// The image is here.
    Done(Box<PulledImage>),
    /// It is not.
    Failed(Box<Problem>),
}

/// What came of a pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledImage {
    /// The image.
    pub image: Image,
    /// Whether its disk was made now; it was here before otherwise.
    pub built: bool,
    /// Bytes that came from its registry.
    pub fetched_bytes: u64,
}

/// An image of which the host has a root disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Stands for every byte of the image: the digest of its manifest for linux/amd64; of its configuration, if it came
    /// from a docker archive, which has no manifest.
    pub digest: ImageDigest,
    /// What has meant it when it was last looked up.
    pub names: Vec<String>,
    /// File system of the disk.
    pub format: String,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Digest of the disk.
    pub disk_digest: ImageDigest,
    /// Extended attributes of the image that Linux has no place for, and which the disk does not have.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_xattrs: u64,
    /// When an instance was last made of it, or when it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
    /// Instances that run from it.
    pub instances: usize,
    /// How its program is meant to run.
    pub program: ImageProgram,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What an image says about its program. Of the environment only names are told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageProgram {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments after them, or the program, if there is no entrypoint.
    pub cmd: Vec<String>,
    /// Names in its environment.
    pub env: Vec<String>,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Who it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What asks it to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Ports that it listens on: nothing is opened by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    /// Directories that hold its data: where a volume may be mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// The image that an instance runs from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceImage {
    /// What was asked for.
    pub name: String,
    /// What that meant then.
    pub digest: ImageDigest,
    /// Digest of the disk.
    pub disk_digest: ImageDigest,
}

/// What the removal of images did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CollectedImages {
    /// Images that are gone.
    pub removed: Vec<ImageDigest>,
    /// Images that stay: instances run from them, or they are being made.
    pub kept: Vec<ImageDigest>,
    /// Bytes of the disks that are gone.
    pub freed_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_images_have_it_and_round_trips() {
        let text = format!("sha256:{}", "a1".repeat(32));
        let digest: ImageDigest = text.parse().unwrap();
        assert_eq!(digest.to_string(), text);
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("{text:?}"));
        assert!("sha256:xyz".parse::<ImageDigest>().is_err());
    }

    #[test]
    fn events_of_a_pull_are_told_apart_by_one_member() {
        let progress = PullProgress {
            step: PullStep::Fetching,
            layer: 1,
            layers: 2,
            bytes_done: 3,
            bytes_total: 4,
        };
        let text = serde_json::to_string(&PullEvent::Progress(progress)).unwrap();
        let expected =
            r#"{"event":"progress","step":"fetching","layer":1,"layers":2,"bytes_done":3,"bytes_total":4}"#;
        assert_eq!(text, expected);
    }
}
