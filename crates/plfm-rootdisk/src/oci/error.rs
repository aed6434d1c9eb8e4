//! What is wrong with an image's documents.

use plfm_release::Sha256Digest;

/// Why an index, a manifest or a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON of the right shape.
    #[error("the {what} is not JSON of the right shape")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// It is a manifest of docker's first format, without configuration and diff ids.
    #[error(
        "the manifest is of schema 1, which no longer is supported; push the image again with a current tool"
    )]
    Schema1,
    /// It is a manifest and an index at once, or neither.
    #[error("the document is not either an index or a manifest")]
    Ambiguous,
    /// It is of a type that holds no root file system.
    #[error("media type {0:?} is not one of an image that can be run")]
    MediaType(String),
    /// A digest is not SHA-256.
    #[error("{0:?} is not a sha256 digest")]
    Digest(String),
    /// It is larger than is taken, or a number in it is.
    #[error("the {what} is past the limit of {max}")]
    Limit {
        /// Which document or number.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// The bytes are not what the descriptor says.
    #[error("sha256:{expected} is not what was found, which is sha256:{found}")]
    Mismatch {
        /// What was looked for.
        expected: Sha256Digest,
        /// What was there.
        found: Sha256Digest,
    },
    /// Size and descriptor do not agree.
    #[error("sha256:{digest} has not the {expected} bytes that its descriptor says")]
    Size {
        /// Which blob.
        digest: Sha256Digest,
        /// What the descriptor says.
        expected: u64,
    },
    /// The index has nothing that an instance can run.
    #[error("the image is not there for linux/amd64, only for {found}")]
    Platform {
        /// What is there.
        found: String,
    },
    /// A layout or an archive has several images.
    #[error("there are several images here; name one of: {names}")]
    Several {
        /// Their names.
        names: String,
    },
    /// A layout or an archive does not have the image that was asked for.
    #[error("there is no image {name:?} here, only: {names}")]
    NoSuchImage {
        /// What was asked for.
        name: String,
        /// What is there.
        names: String,
    },
    /// Manifest and configuration do not have the same layers.
    #[error("the manifest has {layers} layers and the configuration has {diff_ids} diff ids")]
    Layers {
        /// Layers of the manifest.
        layers: usize,
        /// Diff ids of the configuration.
        diff_ids: usize,
    },
    /// A member of the configuration is not what it can be.
    #[error("the configuration's {member} is not one that can be used")]
    Config {
        /// Which.
        member: &'static str,
    },
}

impl DocumentError {
    /// A stable word for what is wrong.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json { .. }
            | Self::Ambiguous
            | Self::Digest(_)
            | Self::Layers { .. }
            | Self::Config { .. } => "image_malformed",
            Self::Schema1 | Self::MediaType(_) => "image_unsupported",
            Self::Limit { .. } => "image_limit",
            Self::Mismatch { .. } | Self::Size { .. } => "image_digest_mismatch",
            Self::Platform { .. } => "image_platform",
            Self::Several { .. } | Self::NoSuchImage { .. } => "image_not_found",
        }
    }
}
