//! The JSON of OCI and docker images: indexes, manifests, configurations. Pure: bytes in, checked values out.

mod config;
mod document;
mod error;

use std::fmt;

use plfm_release::Sha256Digest;
use serde::Deserialize;

pub(crate) use config::ImageConfig;
pub(crate) use document::{Document, Manifest, accepted_types, parse_document};
pub use error::DocumentError;

/// What the hosts boot.
pub(crate) const OS: &str = "linux";
/// The architecture that the hosts boot.
pub(crate) const ARCHITECTURE: &str = "amd64";

/// What an index or a manifest says about a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub media_type: String,
    pub digest: Sha256Digest,
    pub size_bytes: u64,
}

/// A platform as an index names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default)]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            self.os.escape_debug(),
            self.architecture.escape_debug()
        )?;
        match &self.variant {
            Some(variant) => write!(f, "/{}", variant.escape_debug()),
            None => Ok(()),
        }
    }
}

impl Platform {
    /// Whether an instance can run it. `v1` is what every amd64 processor is; `v2` and later need more than the
    /// hosts promise.
    pub(crate) fn is_ours(&self) -> bool {
        self.os == OS
            && self.architecture == ARCHITECTURE
            && matches!(self.variant.as_deref(), None | Some("" | "v1"))
    }
}

/// The digest in `sha256:<hex>`.
pub(crate) fn parse_digest(text: &str) -> Option<Sha256Digest> {
    text.strip_prefix("sha256:")?.parse().ok()
}
