//! Whose fault it is that there is no image: the customer's (4xx), the registry's for now (503), or this host's (500).
//!
//! None of it is a refusal of a release, so none of it has the status 403.

use axum::http::StatusCode;
use plfm_rootdisk::registry::{CredentialsError, FetchError};
use plfm_rootdisk::{BuildError, ImageName, LayerError, MergeError, ResolveError, StoreError};

use crate::problem::{ApiError, chain};

const ROOM: &str =
    "remove images that nothing runs from with `plfm image gc`, or give the agent a larger --image-store-gib";

/// The host does not have the image, and nobody is to be asked.
pub(super) fn not_here(name: &ImageName) -> ApiError {
    ApiError::not_found(
        "image_unknown",
        format!("this host does not have the image {name}"),
    )
    .hint("bring it with `plfm image pull`")
}

/// A layout or an archive is not one, or holds nothing to run.
pub(super) fn resolve_error(error: &ResolveError) -> ApiError {
    match error {
        ResolveError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            ApiError::not_found("image_not_found", chain(error))
                .hint("the path is one of the host that the agent runs on")
        }
        ResolveError::Io { .. }
        | ResolveError::Document { .. }
        | ResolveError::Archive { .. }
        | ResolveError::Missing { .. } => bad_image(error.code(), error),
    }
}

/// A registry has no such image, or it did not come.
pub(super) fn fetch_error(error: &FetchError) -> ApiError {
    match error {
        FetchError::NotFound { .. } => ApiError::not_found(error.code(), chain(error))
            .hint("check name and tag; a private image needs credentials: --image-credentials of the agent"),
        FetchError::Unauthorized { .. } => ApiError::invalid(error.code(), chain(error)).hint(
            "put the registry's credentials into the agent's --image-credentials file, as `docker login` writes them",
        ),
        FetchError::Request { .. } | FetchError::Timeout { .. } | FetchError::Status { .. }
            if error.is_retryable() =>
        {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), chain(error))
                .hint("try again; a registry without TLS must be named by the agent's --image-plaintext")
        }
        FetchError::Request { .. }
        | FetchError::Timeout { .. }
        | FetchError::Status { .. }
        | FetchError::Protocol { .. }
        | FetchError::Blob { .. }
        | FetchError::Document { .. } => bad_image(error.code(), error),
        FetchError::Resolve(error) => resolve_error(error),
        FetchError::Store(error) => store_error(error),
        FetchError::Write { .. } => ApiError::internal(error.code(), chain(error)).hint(ROOM),
    }
}

/// The image is here, and no disk can be made of it. `is_tight`: the host has less room than an image may take.
pub(super) fn build_error(error: &StoreError, is_tight: bool) -> ApiError {
    match error {
        StoreError::Build(BuildError::Layer(LayerError::Unpacked { .. })) if is_tight => {
            let detail = format!("this host has no room for the image: {}", chain(error));
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "image_store_full", detail).hint(ROOM)
        }
        StoreError::Build(BuildError::Layer(
            layer @ (LayerError::Unpacked { .. }
            | LayerError::Stream { .. }
            | LayerError::Archive { .. }
            | LayerError::Entry { .. }),
        )) => bad_image(layer.code(), error),
        StoreError::Build(
            BuildError::Layer(LayerError::Io { .. })
            | BuildError::Erofs(_)
            | BuildError::Ext4(_)
            | BuildError::Io(_),
        )
        | StoreError::Io { .. } => store_error(error),
    }
}

/// The store cannot be worked with: this host's disk.
pub(super) fn store_error(error: &StoreError) -> ApiError {
    ApiError::internal(error.code(), chain(error)).hint(ROOM)
}

/// There are no credentials to be had where there should be some.
pub(super) fn credentials_error(error: &CredentialsError) -> ApiError {
    ApiError::conflict(error.code(), chain(error)).hint("the file is the agent's --image-credentials")
}

/// Image and request together say nothing that can be run.
pub fn workload_error(error: &MergeError) -> ApiError {
    let refused = ApiError::invalid(error.code(), chain(error));
    match error {
        MergeError::NoCommand | MergeError::EmptyProgram => {
            refused.hint("say what to run: `plfm run IMAGE -- PROGRAM`")
        }
        MergeError::StopSignal(_) => refused.hint("name another one with --stop-signal"),
    }
}

/// The customer's image is no good, or is not what was asked for.
fn bad_image(code: &'static str, error: &dyn std::error::Error) -> ApiError {
    match code {
        "image_not_found" => {
            ApiError::not_found(code, chain(error)).hint("name one that is there, after a colon")
        }
        "image_platform" => ApiError::invalid(code, chain(error)).hint("build or name one for linux/amd64"),
        _ => ApiError::invalid(code, chain(error))
            .hint("this is the image's fault: its builder or whoever published it can mend it"),
    }
}
