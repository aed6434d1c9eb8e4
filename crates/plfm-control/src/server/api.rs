//! The routes, and the document that describes them: one list, so that neither has what the other lacks.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ApiError, App, fleet_hosts, hosts, operators, request, rollouts, tokens};

fn described() -> OpenApiRouter<App> {
    let info = InfoBuilder::new()
        .title("plfm control plane")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "What the fleet boots, who may say so, and how it goes. Hosts have client certificates, operators bearer \
             tokens. Every change of an operator needs an Idempotency-Key: the same key with the same request gets the \
             same answer. Errors are problem documents (RFC 9457).",
        ))
        .build();
    let mut components = ComponentsBuilder::new();
    let operator = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let host = SecurityScheme::MutualTls {
        description: Some("A host's certificate, had by enrolment.".to_owned()),
        extensions: None,
        deprecated: None,
    };
    components = components
        .security_scheme("operator", operator)
        .security_scheme("host", host);
    let document = OpenApiBuilder::new()
        .info(info)
        .components(Some(components.build()))
        .build();
    OpenApiRouter::with_openapi(document)
        .routes(routes!(hosts::enroll))
        .routes(routes!(hosts::renew))
        .routes(routes!(hosts::heartbeat))
        .routes(routes!(hosts::target))
        .routes(routes!(operators::kernels))
        .routes(routes!(operators::kernel))
        .routes(routes!(operators::set_default))
        .routes(routes!(operators::rollback))
        .routes(routes!(operators::block))
        .routes(routes!(operators::unblock))
        .routes(routes!(operators::fleet))
        .routes(routes!(fleet_hosts::hosts))
        .routes(routes!(fleet_hosts::host))
        .routes(routes!(fleet_hosts::drain))
        .routes(routes!(fleet_hosts::undrain))
        .routes(routes!(fleet_hosts::revoke))
        .routes(routes!(rollouts::rollouts, rollouts::start_rollout))
        .routes(routes!(rollouts::rollout))
        .routes(routes!(rollouts::pause_rollout))
        .routes(routes!(rollouts::resume_rollout))
        .routes(routes!(rollouts::abort_rollout))
        .routes(routes!(rollouts::promote_rollout))
        .routes(routes!(operators::events))
        .routes(routes!(operators::policy, operators::set_policy))
        .routes(routes!(tokens::tokens, tokens::create_token))
        .routes(routes!(tokens::revoke_token))
        .routes(routes!(
            tokens::enrollment_tokens,
            tokens::create_enrollment_token
        ))
        .routes(routes!(tokens::revoke_enrollment_token))
        .routes(routes!(operators::whoami))
        .routes(routes!(api_document))
}

/// The document that describes the endpoints.
pub fn openapi() -> OpenApi {
    described().into_openapi()
}

/// The endpoints.
pub fn router(app: App) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn(request::note_route))
        .with_state(app)
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "tokens", responses(
    (status = 200, description = "an OpenAPI document", content_type = "application/json"),
), security(()))]
async fn api_document(State(_app): State<App>) -> Response {
    match openapi().to_json() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => ApiError::internal(&error).into_response(),
    }
}

async fn unknown() -> ApiError {
    ApiError::not_found("endpoint_unknown", "the control plane has no such endpoint")
        .hint("see /v1/openapi.json")
}

async fn wrong_method() -> ApiError {
    let detail = "this endpoint does not take that method";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).hint("see /v1/openapi.json")
}
