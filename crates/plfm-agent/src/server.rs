//! HTTP over the agent's Unix socket. Only root can reach it: the socket is 0600 in a directory that is 0700.

mod exec;
mod images;
mod instances;
mod metrics;
mod releases;

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::Context as _;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use plfm_api::{ControlLink, Host};
use tokio::net::UnixListener;

use crate::agent::Agent;
use crate::problem::ApiError;
use crate::settings::Settings;

pub use metrics::serve_metrics;

/// Largest request body, in bytes: secrets of 256 KiB, and everything else around them.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Makes the socket. A socket that nobody listens on is what an earlier agent left, and is taken over.
pub fn listen(settings: &Settings) -> anyhow::Result<UnixListener> {
    let path = settings.socket();
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        anyhow::bail!("another agent listens on {}", path.display());
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove the old socket {}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    Ok(listener)
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: UnixListener,
    agent: Agent,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/v1/host", get(host))
        .route("/v1/control", get(control))
        .route("/v1/releases", get(releases::list).post(releases::install))
        .route("/v1/releases/current", post(releases::set_current))
        .route("/v1/releases/fetch", post(releases::fetch))
        .route("/v1/releases/pin", post(releases::pin))
        .route("/v1/releases/gc", post(releases::collect))
        .route("/v1/registry", get(releases::registry))
        .route("/v1/registry/refresh", post(releases::refresh_registry))
        .route("/v1/images", get(images::list))
        .route("/v1/images/show", get(images::show))
        .route("/v1/images/pull", post(images::pull))
        .route("/v1/images/gc", post(images::collect))
        .route("/v1/instances", get(instances::list).post(instances::create))
        .route(
            "/v1/instances/{id}",
            get(instances::show).delete(instances::delete),
        )
        .route("/v1/instances/{id}/stop", post(instances::stop))
        .route("/v1/instances/{id}/signal", post(instances::signal))
        .route("/v1/instances/{id}/output", get(instances::output))
        .route("/v1/instances/{id}/console", get(instances::console))
        .route("/v1/instances/{id}/exec", post(exec::exec))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(agent);
    // Connections are dropped at the end, not waited for: a client that follows output would hold the agent up.
    tokio::select! {
        served = axum::serve(listener, router) => served.context("cannot serve the agent's socket"),
        () = shutdown => Ok(()),
    }
}

async fn host(State(agent): State<Agent>) -> Json<Host> {
    Json(agent.host())
}

async fn control(State(agent): State<Agent>) -> Result<Json<ControlLink>, ApiError> {
    agent.control_link().map(Json).ok_or_else(|| {
        ApiError::conflict("no_control", "this agent is told of no control plane")
            .hint("start it with --control URL and --control-ca FILE")
    })
}

async fn unknown() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "endpoint_unknown",
        "the agent has no such endpoint",
    )
}

async fn wrong_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this endpoint does not take that method",
    )
}
