//! What operators ask about rollouts.

use axum::extract::State;
use axum::response::Response;
use plfm_api::Problem;
use plfm_api::control::{ChangeRollout, Page, Receipt, Rollout, RolloutDetail, StartRollout};

use super::operators::{PageParams, cursor};
use super::pages::RolloutPage;
use super::{
    Allowed, Answer, ApiError, App, AsOperator, AsViewer, Change, Named, Params, check_reason, page_limit,
};
use crate::fleet::{Command, RolloutChange};

/// The rollouts, newest first.
#[utoipa::path(get, path = "/v1/rollouts", tag = "rollouts", params(PageParams), responses(
    (status = 200, body = RolloutPage),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn rollouts(
    _who: Allowed<AsViewer>,
    Params(params): Params<PageParams>,
    State(app): State<App>,
) -> Answer<Page<Rollout>> {
    let limit = page_limit(params.limit)?;
    let cursor: Option<ulid::Ulid> = cursor(params.cursor.as_deref())?;
    let cursor = cursor.map(|cursor| cursor.to_string());
    super::answer(app.control.rollouts(cursor.as_deref(), limit).await)
}

/// One rollout.
#[utoipa::path(get, path = "/v1/rollouts/{id}", tag = "rollouts", params(
    ("id" = String, Path, description = "its id, or `current`"),
), responses(
    (status = 200, body = RolloutDetail),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn rollout(
    _who: Allowed<AsViewer>,
    Named(id): Named<String>,
    State(app): State<App>,
) -> Answer<RolloutDetail> {
    super::answer(app.control.rollout(&id).await)
}

/// Begins to roll a release out.
#[utoipa::path(post, path = "/v1/rollouts", tag = "rollouts", request_body = StartRollout, params(
    ("Idempotency-Key" = String, Header, description = "the same for the same change"),
), responses(
    (status = 200, body = Receipt),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn start_rollout(
    who: Allowed<AsOperator>,
    State(app): State<App>,
    change: Change<StartRollout>,
) -> Result<Response, ApiError> {
    check_reason(change.value.reason.as_deref())?;
    let request = change.request(&who);
    let command = Command::StartRollout {
        id: ulid::Ulid::generate().to_string(),
        request: Box::new(change.value),
    };
    app.change(&who.actor, request, command).await
}

macro_rules! rollout_change {
    ($(#[$doc:meta])* $name:ident, $path:literal, $change:ident) => {
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "rollouts", request_body = ChangeRollout, params(
            ("id" = String, Path, description = "its id, or `current`"),
            ("Idempotency-Key" = String, Header, description = "the same for the same change"),
        ), responses(
            (status = 200, body = Receipt),
            (status = "default", body = Problem, content_type = "application/problem+json"),
        ), security(("operator" = [])))]
        pub async fn $name(
            who: Allowed<AsOperator>,
            Named(id): Named<String>,
            State(app): State<App>,
            change: Change<ChangeRollout>,
        ) -> Result<Response, ApiError> {
            check_reason(change.value.reason.as_deref())?;
            let request = change.request(&who);
            let command = Command::ChangeRollout {
                id,
                change: RolloutChange::$change,
                request: change.value,
            };
            app.change(&who.actor, request, command).await
        }
    };
}

rollout_change!(
    /// Lets a rollout wait for a person.
    pause_rollout, "/v1/rollouts/{id}/pause", Pause
);
rollout_change!(
    /// Lets a paused rollout go on.
    resume_rollout, "/v1/rollouts/{id}/resume", Resume
);
rollout_change!(
    /// Ends a rollout. Its release is not remembered as bad.
    abort_rollout, "/v1/rollouts/{id}/abort", Abort
);
rollout_change!(
    /// Makes the release the default without waiting for the waves that are left.
    promote_rollout, "/v1/rollouts/{id}/promote", Promote
);
