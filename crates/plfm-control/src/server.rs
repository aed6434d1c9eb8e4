//! HTTP over TLS, for hosts and operators; and plain HTTP on loopback, for what watches the server.
//!
//! ```text
//! accept ──> TLS ──> connection ──> request: id, limits, access log, metrics
//!                                      └──> route ──> access (who asks) ──> extract (what) ──> control
//! ```
//!
//! Invariants: every answer has a request id, and every error is a problem document; nothing waits without a bound, and
//! nothing is read without one; no secret is logged.

mod accept;
mod access;
mod api;
mod connection;
mod extract;
mod failures;
mod fleet_hosts;
mod hosts;
mod leftover;
pub mod limits;
mod observe;
mod operators;
mod pages;
mod problem;
mod request;
mod rollouts;
mod tokens;

pub use accept::{Listening, Server};
pub use access::{Allowed, AsAdmin, AsOperator, AsViewer, HostCaller, Principal};
pub use api::openapi;
pub use connection::Peer;
pub use extract::{Change, JsonBody, Named, Params};
pub use observe::observe_router;
pub use problem::{ApiError, chain};
pub use request::RequestId;

use access::standing;
use extract::{check_reason, page_limit};

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use plfm_api::control::Actor;

use crate::control::{Control, ControlError, Request};
use crate::fleet::Command;
use failures::Failures;

/// What a handler gives.
pub type Answer<T> = Result<Json<T>, ApiError>;

/// What requests share.
#[derive(Clone)]
pub struct App {
    /// The control plane.
    pub control: Control,
    failures: Arc<Failures>,
}

impl App {
    /// What requests share.
    pub fn new(control: Control) -> Self {
        Self {
            control,
            failures: Arc::default(),
        }
    }

    /// Counts a failed authentication. Whoever fails too often is told to wait.
    fn failed(&self, from: IpAddr, error: ApiError) -> ApiError {
        self.control.metrics().authentication_failure(error.code);
        match self.failures.count(from, Instant::now()) {
            Some(wait) => too_many(wait),
            None => error,
        }
    }

    /// Refuses whoever failed too often.
    fn check_waits(&self, from: IpAddr) -> Result<(), ApiError> {
        self.failures
            .wait(from, Instant::now())
            .map_or(Ok(()), |wait| Err(too_many(wait)))
    }

    /// Carries an operator's change out.
    async fn change(&self, actor: &Actor, request: Request, command: Command) -> Result<Response, ApiError> {
        let (status, body) = self.control.change(&command, actor, &request).await?;
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        Ok(response.into_response())
    }
}

fn too_many(wait: std::time::Duration) -> ApiError {
    let detail = "too many requests from this address were from nobody known";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", detail)
        .hint("check the token; the log of the control plane has the reasons")
        .retry_after(wait.as_secs().saturating_add(1))
}

fn answer<T>(result: Result<T, ControlError>) -> Answer<T> {
    answer_of(result.map_err(ApiError::from))
}

fn answer_of<T>(result: Result<T, ApiError>) -> Answer<T> {
    result.map(Json)
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused(refusal) => refusal.into(),
            ControlError::KeyReused => Self::conflict(
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request",
            )
            .hint("send a new key with a new change"),
            ControlError::Contended => Self::unavailable(
                "contended",
                "others changed the fleet each time that this was decided",
            )
            .retry_after(1),
            ControlError::Busy => {
                Self::unavailable("busy", "the database does not keep up with the heartbeats").retry_after(5)
            }
            ControlError::Ending => Self::unavailable("ending", "the control plane is ending").retry_after(1),
            ControlError::Heartbeat(detail) => Self::invalid("heartbeat_invalid", detail),
            ControlError::StreamTooOld => Self::conflict(
                "stream_too_old",
                "the heartbeat's stream is older than those that are remembered",
            )
            .hint("begin another stream"),
            ControlError::Store(ref store) if store.is_retryable() => {
                tracing::warn!(code = store.code(), "{}", chain(&error));
                Self::unavailable("database_unavailable", "the database does not answer").retry_after(2)
            }
            ControlError::Store(_)
            | ControlError::Log(_)
            | ControlError::NotKept(_)
            | ControlError::Id(_)
            | ControlError::Issue(_)
            | ControlError::KeptAnswer(_) => Self::internal(&error),
        }
    }
}
