//! The repository over HTTP, from a directory: what any static web server does, built in.
//!
//! Invariant: only `metadata/<name>` and `targets/<name>` with names of the repository's alphabet are opened, so no
//! path leads out of the directory. `timestamp.json` is never cached; everything else never changes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;
use futures_util::StreamExt as _;
use plfm_release::Sha256Digest;
use tokio::net::TcpListener;
use tower_http::services::ServeFile;

use crate::layout::{METADATA_DIR, TARGETS_DIR};
use crate::role::TARGETS_BYTES_MAX;

/// Where `serve` listens unless told otherwise: this machine only.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:8470";
/// Longest name served, in bytes: a digest, a dot and an artifact's name have less.
const NAME_BYTES_MAX: usize = 255;
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const REVALIDATE: &str = "no-cache";
/// A root, snapshot or targets version that is not there may be there a moment later.
const NOT_CACHED: &str = "no-store";

/// The routes of the repository in `directory`: `/metadata/{name}` and `/targets/{name}`, for GET and HEAD.
pub fn router(directory: impl Into<PathBuf>) -> Router {
    let directory: Arc<Path> = directory.into().into();
    Router::new()
        .route("/metadata/{name}", get(metadata))
        .route("/targets/{name}", get(target))
        .with_state(directory)
}

/// Serves `router` on `listener` until `stop` resolves; downloads that have begun are finished.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

/// Whether a name may be opened: one path component of letters, digits and `.-_`, visible.
fn is_served(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(good) && !name.starts_with('.')
}

async fn metadata(
    State(directory): State<Arc<Path>>,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
) -> Response<Body> {
    if !is_served(&name) {
        return status(StatusCode::NOT_FOUND);
    }
    let path = directory.join(METADATA_DIR).join(&name);
    // Read whole, so that one answer is one version even while the file is replaced.
    let bytes = match read_regular(&path).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return status(StatusCode::NOT_FOUND),
        Err(error) => {
            tracing::error!(%error, name, "cannot read metadata");
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let etag = format!("\"{}\"", Sha256Digest::of(&bytes));
    let cache = if name == "timestamp.json" {
        REVALIDATE
    } else {
        IMMUTABLE
    };
    tracing::debug!(name, bytes = bytes.len(), "metadata");
    if matches_etag(&headers, &etag) {
        return with_headers(status(StatusCode::NOT_MODIFIED), &etag, cache);
    }
    let mut response = Response::new(Body::from(bytes));
    let json = HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(axum::http::header::CONTENT_TYPE, json);
    with_headers(response, &etag, cache)
}

async fn read_regular(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    match tokio::fs::symlink_metadata(path).await {
        Ok(found) if found.is_file() && found.len() <= TARGETS_BYTES_MAX => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    tokio::fs::read(path).await.map(Some)
}

async fn target(
    State(directory): State<Arc<Path>>,
    UrlPath(name): UrlPath<String>,
    mut request: Request,
) -> Response<Body> {
    // A target's name begins with its digest, which is its tag.
    let digest = name
        .split_once('.')
        .map(|(digest, _)| digest.parse::<Sha256Digest>());
    let Some(Ok(digest)) = digest.filter(|_| is_served(&name)) else {
        return status(StatusCode::NOT_FOUND);
    };
    let path = directory.join(TARGETS_DIR).join(&name);
    let is_file = tokio::fs::symlink_metadata(&path)
        .await
        .is_ok_and(|found| found.is_file());
    if !is_file {
        return status(StatusCode::NOT_FOUND);
    }
    let etag = format!("\"{digest}\"");
    if matches_etag(request.headers(), &etag) {
        return with_headers(status(StatusCode::NOT_MODIFIED), &etag, IMMUTABLE);
    }
    // RFC 9110, section 13.1.5: a range of something else than the client has a part of is no use to it.
    let if_range = request.headers_mut().remove(IF_RANGE);
    if if_range.is_some_and(|tag| tag.as_bytes() != etag.as_bytes()) {
        request.headers_mut().remove(RANGE);
    }
    let response = match ServeFile::new(&path).try_call(request).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, name, "cannot read a target");
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let response = with_headers(response.map(Body::new), &etag, IMMUTABLE);
    logged(name, response)
}

/// The same answer, with a line in the log when it begins and one when it ends, whole or cut.
fn logged(name: String, response: Response<Body>) -> Response<Body> {
    let length = response
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    let Some(expected) = length.and_then(|length| length.parse().ok()) else {
        return response;
    };
    let mut download = Download {
        name,
        expected,
        sent: 0,
        begun: Instant::now(),
    };
    tracing::info!(
        name = download.name,
        bytes = expected,
        status = response.status().as_u16(),
        "download begins"
    );
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                download.sent = download.sent.saturating_add(chunk.len());
            }
        }))
    })
}

struct Download {
    name: String,
    expected: usize,
    sent: usize,
    begun: Instant,
}

impl Drop for Download {
    fn drop(&mut self) {
        let ms = self.begun.elapsed().as_millis();
        let (sent, expected) = (self.sent, self.expected);
        if sent == expected {
            tracing::info!(name = self.name, bytes = sent, ms, "download complete");
        } else {
            tracing::info!(name = self.name, bytes = sent, of = expected, ms, "download cut");
        }
    }
}

fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    let listed = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    listed.is_some_and(|listed| {
        let mut tags = listed.split(',').map(str::trim);
        tags.any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
    })
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static(NOT_CACHED));
    response
}

fn with_headers(mut response: Response<Body>, etag: &str, cache: &'static str) -> Response<Body> {
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

#[cfg(test)]
mod tests {
    use super::is_served;

    #[test]
    fn only_plain_visible_names_are_served() {
        for good in [
            "1.root.json",
            "timestamp.json",
            "ab.vmlinuz-plfm-6.1.50-20251217a",
        ] {
            assert!(is_served(good), "{good}");
        }
        for bad in [
            "", ".", "..", ".lock", "a/b", "..%2f", "a\\b", "a b", "a#1", "a\0",
        ] {
            assert!(!is_served(bad), "{bad:?} is served");
        }
    }
}
