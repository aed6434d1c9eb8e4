//! Error answers of the agent and of the control plane: one mapping to exit codes for both.

use plfm_api::Problem;
use reqwest::StatusCode;

use crate::output::{Category, CliError};

/// Who gave an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The local agent.
    Agent,
    /// The control plane.
    ControlPlane,
}

/// What an error answer means.
pub fn problem_error(peer: Peer, status: StatusCode, body: &[u8]) -> CliError {
    let category = category(peer, status);
    if let Ok(problem) = serde_json::from_slice::<Problem>(body) {
        let mut error = CliError::new(category, &problem.code, problem.detail).with_hint(problem.hint);
        error.request_id = Some(problem.request_id);
        return error;
    }
    let (code, peer) = match peer {
        Peer::Agent => ("agent_error", "agent"),
        Peer::ControlPlane => ("control_plane_error", "control plane"),
    };
    CliError::new(
        category,
        code,
        format!("the {peer} answered with status {status}"),
    )
}

fn category(peer: Peer, status: StatusCode) -> Category {
    match status {
        StatusCode::BAD_REQUEST => Category::Usage,
        // The control plane: a word of the command line is wrong. The agent: a release or an instance did not work.
        StatusCode::UNPROCESSABLE_ENTITY if peer == Peer::ControlPlane => Category::Usage,
        // Of the agent it is a release that is not to be trusted: its socket asks nobody who they are.
        StatusCode::FORBIDDEN if peer == Peer::Agent => Category::Failure,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Category::Auth,
        StatusCode::NOT_FOUND => Category::NotFound,
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Category::Conflict,
        status if is_transient(status) => Category::Transient,
        status if status.is_server_error() => Category::Internal,
        _ => Category::Failure,
    }
}

/// Whether the same request may succeed later.
pub fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_an_exit_code() {
        let codes = |peer| {
            [400, 401, 403, 404, 409, 412, 422, 429, 500, 503].map(|status| {
                let status = StatusCode::from_u16(status).unwrap();
                problem_error(peer, status, b"").exit_code()
            })
        };
        assert_eq!(codes(Peer::Agent), [2, 3, 1, 4, 5, 5, 1, 6, 7, 6]);
        assert_eq!(codes(Peer::ControlPlane), [2, 3, 3, 4, 5, 5, 2, 6, 7, 6]);
    }

    #[test]
    fn a_problem_keeps_its_words_its_code_and_its_request() {
        let body = br#"{"type":"about:blank","title":"Conflict","status":409,"code":"generation_moved",
            "detail":"the fleet is at 5","hint":"look again","retryable":false,"request_id":"01J"}"#;
        let error = problem_error(Peer::ControlPlane, StatusCode::CONFLICT, body);
        assert_eq!(error.code, "generation_moved");
        assert_eq!(error.message, "the fleet is at 5");
        assert_eq!(error.hint.as_deref(), Some("look again"));
        assert_eq!(error.request_id.as_deref(), Some("01J"));
        let error = problem_error(Peer::ControlPlane, StatusCode::CONFLICT, b"<html>");
        assert_eq!(error.code, "control_plane_error");
    }
}
