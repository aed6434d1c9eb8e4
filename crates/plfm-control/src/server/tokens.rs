//! Tokens of operators and of hosts.

use axum::extract::State;
use axum::response::Response;
use plfm_api::Problem;
use plfm_api::control::{
    CreateEnrollmentToken, CreateToken, CreatedEnrollmentToken, CreatedToken, EnrollmentToken, Page, Receipt,
    RevokeToken, Token,
};

use super::operators::PageParams;
use super::pages::{EnrollmentTokenPage, TokenPage};
use super::{
    Allowed, Answer, ApiError, App, AsAdmin, AsOperator, Change, Named, Params, check_reason, page_limit,
};
use crate::fleet::Command;

/// Operators' tokens, in the order of their ids: oldest first.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(PageParams), responses(
    (status = 200, body = TokenPage),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn tokens(
    _who: Allowed<AsAdmin>,
    Params(params): Params<PageParams>,
    State(app): State<App>,
) -> Answer<Page<Token>> {
    let limit = page_limit(params.limit)?;
    super::answer(Ok(app.control.tokens(params.cursor.as_deref(), limit)))
}

/// Makes a token for an operator.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = CreateToken, params(
    ("Idempotency-Key" = String, Header, description = "the same for the same change"),
), responses(
    (status = 200, body = CreatedToken),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn create_token(
    who: Allowed<AsAdmin>,
    State(app): State<App>,
    change: Change<CreateToken>,
) -> Answer<CreatedToken> {
    let request = change.request(&who);
    super::answer(app.control.create_token(&who.actor, &request, change.value).await)
}

/// Takes an operator's token back.
#[utoipa::path(post, path = "/v1/tokens/{id}/revoke", tag = "tokens", request_body = RevokeToken, params(
    ("id" = String, Path, description = "the token's id"),
    ("Idempotency-Key" = String, Header, description = "the same for the same change"),
), responses(
    (status = 200, body = Receipt),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn revoke_token(
    who: Allowed<AsAdmin>,
    Named(id): Named<String>,
    State(app): State<App>,
    change: Change<RevokeToken>,
) -> Result<Response, ApiError> {
    check_reason(change.value.reason.as_deref())?;
    let request = change.request(&who);
    let reason = change.value.reason;
    app.change(&who.actor, request, Command::RevokeToken { id, reason })
        .await
}

/// Hosts' tokens, in the order of their ids: oldest first.
#[utoipa::path(get, path = "/v1/enrollment-tokens", tag = "tokens", params(PageParams), responses(
    (status = 200, body = EnrollmentTokenPage),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn enrollment_tokens(
    _who: Allowed<AsOperator>,
    Params(params): Params<PageParams>,
    State(app): State<App>,
) -> Answer<Page<EnrollmentToken>> {
    let limit = page_limit(params.limit)?;
    super::answer(Ok(app.control.enrollment_tokens(params.cursor.as_deref(), limit)))
}

/// Makes a token that one host may enrol with.
#[utoipa::path(post, path = "/v1/enrollment-tokens", tag = "tokens", request_body = CreateEnrollmentToken, params(
    ("Idempotency-Key" = String, Header, description = "the same for the same change"),
), responses(
    (status = 200, body = CreatedEnrollmentToken),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn create_enrollment_token(
    who: Allowed<AsOperator>,
    State(app): State<App>,
    change: Change<CreateEnrollmentToken>,
) -> Answer<CreatedEnrollmentToken> {
    let request = change.request(&who);
    super::answer(
        app.control
            .create_enrollment_token(&who.actor, &request, change.value)
            .await,
    )
}

/// Takes a host's token back.
#[utoipa::path(post, path = "/v1/enrollment-tokens/{id}/revoke", tag = "tokens", request_body = RevokeToken, params(
    ("id" = String, Path, description = "the token's id"),
    ("Idempotency-Key" = String, Header, description = "the same for the same change"),
), responses(
    (status = 200, body = Receipt),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn revoke_enrollment_token(
    who: Allowed<AsOperator>,
    Named(id): Named<String>,
    State(app): State<App>,
    change: Change<RevokeToken>,
) -> Result<Response, ApiError> {
    check_reason(change.value.reason.as_deref())?;
    let request = change.request(&who);
    let reason = change.value.reason;
    app.change(&who.actor, request, Command::RevokeEnrollmentToken { id, reason })
        .await
}
