//! `/v1/instances/{id}/exec`: the connection becomes a pipe to the guest's exec service. Frames pass unread.

use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use plfm_api::{EXEC_UPGRADE, InstanceState};
use plfm_guest_protocol::EXEC_PORT;
use tracing::debug;

use crate::agent::Agent;
use crate::problem::ApiError;

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

pub async fn exec(
    State(agent): State<Agent>,
    Path(id): Path<String>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let handle = agent.find(&id)?;
    let view = handle.view();
    if !matches!(view.state, InstanceState::Running | InstanceState::Stopping) {
        let detail = format!("instance {} is {}", view.id, view.state.as_str());
        return Err(ApiError::conflict("instance_not_running", detail));
    }
    if request
        .headers()
        .get(header::UPGRADE)
        .is_none_or(|protocol| protocol != EXEC_UPGRADE)
    {
        let detail = format!("exec needs an upgrade to {EXEC_UPGRADE}");
        return Err(ApiError::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade_required",
            detail,
        ));
    }
    let mut guest = handle
        .connect(EXEC_PORT, CONNECT_PATIENCE)
        .await
        .map_err(|error| {
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "exec_unavailable",
                format!("cannot reach the guest: {error}"),
            )
        })?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => {
                let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut guest).await;
                debug!("exec connection over: {copied:?}");
            }
            Err(error) => debug!("exec connection lost: {error}"),
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(EXEC_UPGRADE)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}
