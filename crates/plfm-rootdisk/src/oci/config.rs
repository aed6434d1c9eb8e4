//! The image's configuration: what it is for, its layers' diff ids, and how its program is meant to run.

use std::collections::BTreeMap;

use plfm_guest_protocol::Sensitive;
use plfm_release::Sha256Digest;
use serde::Deserialize;

use crate::defaults::{ExposedPort, ImageDefaults};
use crate::oci::document::shorten;
use crate::oci::{DocumentError, Platform, parse_digest};

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct ImageConfig {
    pub diff_ids: Vec<Sha256Digest>,
    pub defaults: ImageDefaults,
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(flatten)]
    platform: Platform,
    rootfs: RootfsJson,
    #[serde(default)]
    config: Option<ProcessJson>,
}

#[derive(Deserialize)]
struct RootfsJson {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// Members are absent, null or empty, as each tool likes.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ProcessJson {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

impl ImageConfig {
    /// Reads and checks a configuration.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let json: ConfigJson = serde_json::from_slice(bytes).map_err(|source| DocumentError::Json {
            what: "configuration",
            // The text of a shape error may quote a value, and environment values are nobody's business.
            source: serde::de::Error::custom(format!("{:?} at line {}", source.classify(), source.line())),
        })?;
        if !json.platform.is_ours() {
            return Err(DocumentError::Platform {
                found: json.platform.to_string(),
            });
        }
        if json.rootfs.kind != "layers" {
            return Err(DocumentError::Config {
                member: "rootfs.type",
            });
        }
        let diff_ids = json.rootfs.diff_ids.unwrap_or_default();
        let diff_id = |text: &String| parse_digest(text).ok_or_else(|| DocumentError::Digest(shorten(text)));
        Ok(Self {
            diff_ids: diff_ids.iter().map(diff_id).collect::<Result<_, _>>()?,
            defaults: json.config.unwrap_or_default().defaults()?,
        })
    }
}

impl ProcessJson {
    fn defaults(self) -> Result<ImageDefaults, DocumentError> {
        let ports = self.exposed_ports.unwrap_or_default();
        let port = |text: &String| {
            text.parse().map_err(|_| DocumentError::Config {
                member: "ExposedPorts",
            })
        };
        let not_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(ImageDefaults {
            entrypoint: self.entrypoint.unwrap_or_default(),
            cmd: self.cmd.unwrap_or_default(),
            env: environment(self.env.unwrap_or_default()),
            working_dir: not_empty(self.working_dir),
            user: not_empty(self.user),
            stop_signal: not_empty(self.stop_signal),
            exposed_ports: ports.keys().map(port).collect::<Result<Vec<ExposedPort>, _>>()?,
            volumes: self.volumes.unwrap_or_default().into_keys().collect(),
        })
    }
}

/// Of two values of one name the last counts; what has no `=` sets nothing.
fn environment(entries: Vec<String>) -> BTreeMap<String, Sensitive> {
    let pairs = entries.iter().filter_map(|entry| entry.split_once('='));
    let named = pairs.filter(|(name, _)| !name.is_empty());
    named
        .map(|(name, value)| (name.to_owned(), Sensitive::new(value)))
        .collect()
}
