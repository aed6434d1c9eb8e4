//! Why an image could not be fetched.

use std::io;
use std::path::PathBuf;

use plfm_release::Sha256Digest;

use crate::image::ResolveError;
use crate::oci::DocumentError;
use crate::reference::Reference;
use crate::store::StoreError;

/// Why an image could not be fetched. No text has credentials, tokens or addresses with a query in it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The registry cannot be reached or broke off.
    #[error("{registry} does not answer")]
    Request {
        /// Which registry.
        registry: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// It said nothing for too long.
    #[error("{registry} took too long for {what}")]
    Timeout {
        /// Which registry.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// It does not know the image, or does not say so to everyone.
    #[error("{registry} has no {what}, or not for these credentials")]
    NotFound {
        /// Which registry.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// It does not take the credentials.
    #[error("{registry} refuses {what}: it wants other credentials")]
    Unauthorized {
        /// Which registry.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// It answers with an error, or with something that is no answer.
    #[error("{registry} answered {status} when asked for {what}")]
    Status {
        /// Which registry.
        registry: String,
        /// The status of HTTP.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// It speaks a protocol that this does not.
    #[error("{registry} does not keep to the protocol: {reason}")]
    Protocol {
        /// Which registry.
        registry: String,
        /// In what.
        reason: &'static str,
    },
    /// A blob is not what its digest says.
    #[error("{registry} has other bytes for sha256:{blob}")]
    Blob {
        /// Which registry.
        registry: String,
        /// Which blob.
        blob: Sha256Digest,
    },
    /// An index or a manifest is not taken.
    #[error("{reference} is not an image that can be used")]
    Document {
        /// Which image.
        reference: String,
        /// What is wrong.
        #[source]
        source: DocumentError,
    },
    /// What was fetched is not an image.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was fetched cannot be kept.
    #[error("cannot write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// A stable word for what happened.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Request { .. } | Self::Timeout { .. } => "registry_unreachable",
            Self::NotFound { .. } => "image_not_found",
            Self::Unauthorized { .. } => "registry_unauthorized",
            Self::Status { .. } | Self::Protocol { .. } => "registry_failed",
            Self::Blob { .. } => "image_digest_mismatch",
            Self::Document { source, .. } => source.code(),
            Self::Resolve(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Write { .. } => "image_io",
        }
    }

    /// Whether another try may do better.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Request { .. } | Self::Timeout { .. } => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// The addresses that registries redirect to have signatures in them.
    pub(super) fn request(registry: &str, source: reqwest::Error) -> Self {
        Self::Request {
            registry: registry.to_owned(),
            source: source.without_url(),
        }
    }

    pub(super) fn document(reference: &Reference, source: DocumentError) -> Self {
        Self::Document {
            reference: reference.to_string(),
            source,
        }
    }
}
