//! Metrics and health over plain HTTP, on an address of its own: nothing here changes anything or tells a secret.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use plfm_api::{PROMETHEUS_CONTENT_TYPE, prometheus_text};
use tokio::net::TcpListener;

use crate::agent::{Agent, blocking};

/// Listens at once, so that an address that is taken is an error at the start; then serves until it is dropped.
pub async fn serve_metrics(
    address: SocketAddr,
    agent: Agent,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (--metrics-listen)"))?;
    let address = listener
        .local_addr()
        .context("cannot tell the address of the metrics")?;
    tracing::info!(%address, "metrics");
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(agent);
    Ok(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("metrics are not served any more: {error}");
        }
    })
}

async fn metrics(State(agent): State<Agent>) -> Response {
    match blocking(move || agent.render_metrics()).await {
        Ok(Ok(text)) => {
            let kind = [(header::CONTENT_TYPE, PROMETHEUS_CONTENT_TYPE)];
            (kind, prometheus_text(&text)).into_response()
        }
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Whether a new instance would have something to boot.
async fn ready(State(agent): State<Agent>) -> Response {
    match blocking(move || agent.why_not_ready()).await {
        Ok(None) => "ok\n".into_response(),
        Ok(Some(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
