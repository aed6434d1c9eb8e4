//! Errors as the clients of the socket see them.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use plfm_api::{PROBLEM_CONTENT_TYPE, Problem};
use tracing::warn;

/// An error with a status, a stable code and a hint.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: Option<String>,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)
    }
}

/// `error` and its causes on one line: `a: b: c`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            hint: None,
        }
    }

    /// The request is wrong.
    pub fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// The release is not to be trusted or not for this host: nothing was changed.
    pub fn refused(code: &'static str, error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, chain(error))
    }

    /// The host's fault.
    pub fn internal(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, detail)
    }

    /// Whether a release is not to be trusted, or not for this host.
    pub fn is_refusal(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What failed, without the code.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl ApiError {
    /// The error's body, which is in the log from now on.
    pub fn into_problem(self) -> Problem {
        let request_id = ulid::Ulid::generate().to_string();
        warn!(
            request_id,
            status = self.status.as_u16(),
            code = self.code,
            "{}",
            self.detail
        );
        Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("error").to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail,
            hint: self.hint,
            retryable: self.status == StatusCode::SERVICE_UNAVAILABLE,
            request_id,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let body = serde_json::to_vec(&self.into_problem()).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, PROBLEM_CONTENT_TYPE)], body).into_response()
    }
}
