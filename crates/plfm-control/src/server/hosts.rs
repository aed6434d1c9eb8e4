//! What hosts ask.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use plfm_api::Problem;
use plfm_api::control::{
    EnrollHost, EnrolledHost, Generation, Heartbeat, HeartbeatAnswer, HostId, RenewCertificate, Target,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::access::address;
use super::limits::{HEARTBEAT_BYTES_MAX, HOST_BODY_BYTES_MAX};
use super::operators::wait;
use super::{Answer, ApiError, App, HostCaller, JsonBody, Named, Params, RequestId, standing};
use crate::authority::{RequestError, SigningRequest};
use crate::control::{ClaimedToken, NewHost, TokenKind};

/// Which target a host has.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct TargetParams {
    /// The generation that the host goes by.
    pub after: u64,
    /// How long to wait for a newer one, in seconds.
    #[param(maximum = 60)]
    pub wait_seconds: u64,
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        Self::invalid(error.code(), error.to_string())
    }
}

fn invalid_token() -> ApiError {
    let detail = "the enrollment token is not valid: unknown, used, expired, revoked, or for another host";
    ApiError::unauthorized("enrollment_token_invalid", detail)
        .hint("have an operator make a new one: `plfm admin hosts enroll-token`")
}

/// Lets a host into the fleet.
///
/// May be repeated with the same token and the same key if the answer was lost.
#[utoipa::path(post, path = "/v1/hosts/enroll", tag = "hosts", request_body = EnrollHost, responses(
    (status = 200, body = EnrolledHost),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(()))]
pub async fn enroll(State(app): State<App>, request: Request) -> Answer<EnrolledHost> {
    use axum::extract::FromRequest as _;
    let (parts, body) = request.into_parts();
    let from = address(&parts)?;
    let request_id = parts
        .extensions
        .get::<RequestId>()
        .map(|id| id.0.clone())
        .unwrap_or_default();
    let request = Request::from_parts(parts, body);
    let JsonBody { value: asked, .. } =
        JsonBody::<EnrollHost, HOST_BODY_BYTES_MAX>::from_request(request, &app).await?;
    let Some(token) = ClaimedToken::parse(TokenKind::Enrollment, &asked.token) else {
        return Err(app.failed(from, invalid_token()));
    };
    // Who tries out tokens does not get at the database.
    if !app.control.may_enroll(&token) {
        app.check_waits(from)?;
    }
    let request = SigningRequest::parse(&asked.csr)?;
    let new = NewHost {
        token,
        name: asked.name,
        request,
        agent_version: asked.agent_version,
        arch: asked.arch,
        address: from.to_string(),
        request_id,
    };
    let enrolled = app.control.enroll(new).await.map_err(ApiError::from);
    super::answer_of(enrolled.map_err(|error| match error.status {
        StatusCode::UNAUTHORIZED => app.failed(from, error),
        _ => error,
    }))
}

/// Another certificate, before the old one ends.
#[utoipa::path(post, path = "/v1/hosts/{id}/certificate", tag = "hosts", request_body = RenewCertificate, params(
    ("id" = String, Path, description = "the host"),
), responses(
    (status = 200, body = EnrolledHost),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("host" = [])))]
pub async fn renew(
    caller: HostCaller,
    Named(host): Named<HostId>,
    State(app): State<App>,
    body: JsonBody<RenewCertificate, HOST_BODY_BYTES_MAX>,
) -> Answer<EnrolledHost> {
    caller.check_is(&host)?;
    let request = SigningRequest::parse(&body.value.csr)?;
    super::answer(app.control.renew(&host, &request, &caller.actor).await)
}

/// A host's word, and what it is told.
#[utoipa::path(post, path = "/v1/hosts/{id}/heartbeat", tag = "hosts", request_body = Heartbeat, params(
    ("id" = String, Path, description = "the host"),
), responses(
    (status = 200, body = HeartbeatAnswer),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("host" = [])))]
pub async fn heartbeat(
    caller: HostCaller,
    Named(host): Named<HostId>,
    State(app): State<App>,
    body: JsonBody<Heartbeat, HEARTBEAT_BYTES_MAX>,
) -> Answer<HeartbeatAnswer> {
    caller.check_is(&host)?;
    super::answer(app.control.heartbeat(&host, body.value).await)
}

/// The target, when it is newer than the one that the host has.
#[utoipa::path(get, path = "/v1/hosts/{id}/target", tag = "hosts", params(
    ("id" = String, Path, description = "the host"), TargetParams,
), responses(
    (status = 200, body = Target),
    (status = 204, description = "there is nothing newer"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("host" = [])))]
pub async fn target(
    caller: HostCaller,
    Named(host): Named<HostId>,
    Params(params): Params<TargetParams>,
    State(app): State<App>,
) -> Result<Response, ApiError> {
    caller.check_is(&host)?;
    let wait = wait(params.wait_seconds)?;
    let told = app.control.told_after(Generation(params.after), wait).await;
    // It may have been revoked meanwhile.
    standing(&app, &host)?;
    Ok(match told {
        Some(told) => Json(&told.target).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}
