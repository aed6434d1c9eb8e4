//! What operators ask: releases, the fleet, the policy, the log.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use plfm_api::Problem;
use plfm_api::control::{
    BlockRelease, CurrentPolicy, EventPage, Fleet, Kernel, KernelDetail, Page, Receipt, Rollback, SetDefault,
    SetPolicy, UnblockRelease, WAIT_SECONDS_MAX, Whoami,
};
use plfm_release::ReleaseId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::limits::POLICY_BODY_BYTES_MAX;
use super::pages::KernelPage;
use super::{
    Allowed, Answer, ApiError, App, AsOperator, AsViewer, Change, Named, Params, check_reason, page_limit,
};
use crate::fleet::Command;

/// A part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// `next_cursor` of the part before.
    pub cursor: Option<String>,
    /// How many items, 50 unless told otherwise.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
}

/// A part of the log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct EventParams {
    /// Events after this position.
    pub after: u64,
    /// How many, 50 unless told otherwise.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
    /// How long to wait for an event if there is none, in seconds.
    #[param(maximum = 60)]
    pub wait_seconds: u64,
    /// Only those about this: `fleet`, `release/<id>`, `host/<id>`, …
    pub aggregate: Option<String>,
}

/// The releases, newest first.
#[utoipa::path(get, path = "/v1/kernels", tag = "kernels", params(PageParams), responses(
    (status = 200, body = KernelPage),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn kernels(
    _who: Allowed<AsViewer>,
    Params(params): Params<PageParams>,
    State(app): State<App>,
) -> Answer<Page<Kernel>> {
    let limit = page_limit(params.limit)?;
    let cursor: Option<ReleaseId> = cursor(params.cursor.as_deref())?;
    super::answer(app.control.kernels(cursor.as_ref(), limit).await)
}

/// One release.
#[utoipa::path(get, path = "/v1/kernels/{release}", tag = "kernels", params(
    ("release" = String, Path, description = "its id, either label, or a build id that only one has"),
), responses(
    (status = 200, body = KernelDetail),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn kernel(
    _who: Allowed<AsViewer>,
    Named(release): Named<String>,
    State(app): State<App>,
) -> Answer<KernelDetail> {
    super::answer(app.control.kernel(&release).await)
}

macro_rules! fleet_change {
    ($(#[$doc:meta])* $name:ident, $path:literal, $body:ty, $command:ident) => {
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "kernels", request_body = $body, params(
            ("Idempotency-Key" = String, Header, description = "the same for the same change"),
        ), responses(
            (status = 200, body = Receipt),
            (status = "default", body = Problem, content_type = "application/problem+json"),
        ), security(("operator" = [])))]
        pub async fn $name(
            who: Allowed<AsOperator>,
            State(app): State<App>,
            change: Change<$body>,
        ) -> Result<Response, ApiError> {
            change.value.check()?;
            app.change(&who.actor, change.request(&who), Command::$command(change.value)).await
        }
    };
}

fleet_change!(
    /// Makes a release what new instances boot.
    set_default, "/v1/kernels/set-default", SetDefault, SetDefault
);
fleet_change!(
    /// Takes the fleet back, to the last known good release unless one is named.
    rollback, "/v1/kernels/rollback", Rollback, Rollback
);
fleet_change!(
    /// Keeps new instances from a release.
    block, "/v1/kernels/block", BlockRelease, Block
);
fleet_change!(
    /// Allows a release again.
    unblock, "/v1/kernels/unblock", UnblockRelease, Unblock
);

/// Texts in a change that people read later.
trait Checked {
    fn check(&self) -> Result<(), ApiError>;
}

impl Checked for SetDefault {
    fn check(&self) -> Result<(), ApiError> {
        check_reason(self.reason.as_deref())
    }
}

impl Checked for Rollback {
    fn check(&self) -> Result<(), ApiError> {
        check_reason(self.reason.as_deref())
    }
}

impl Checked for UnblockRelease {
    fn check(&self) -> Result<(), ApiError> {
        check_reason(self.reason.as_deref())
    }
}

impl Checked for BlockRelease {
    fn check(&self) -> Result<(), ApiError> {
        check_reason(Some(&self.reason))
    }
}

/// The fleet at a glance.
#[utoipa::path(get, path = "/v1/fleet", tag = "fleet", responses(
    (status = 200, body = Fleet),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn fleet(_who: Allowed<AsViewer>, State(app): State<App>) -> Answer<Fleet> {
    super::answer(app.control.glance().await)
}

/// The log.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventParams), responses(
    (status = 200, body = EventPage),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn events(
    _who: Allowed<AsViewer>,
    Params(params): Params<EventParams>,
    State(app): State<App>,
) -> Answer<EventPage> {
    let limit = page_limit(params.limit)?;
    let wait = wait(params.wait_seconds)?;
    super::answer(
        app.control
            .events(params.after, limit, params.aggregate.as_deref(), wait)
            .await,
    )
}

/// The policy.
#[utoipa::path(get, path = "/v1/policy", tag = "policy", responses(
    (status = 200, body = CurrentPolicy),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn policy(_who: Allowed<AsViewer>, State(app): State<App>) -> Answer<CurrentPolicy> {
    let fleet = app.control.fleet();
    super::answer(Ok(CurrentPolicy {
        policy: fleet.policy().clone(),
        generation: fleet.generation(),
    }))
}

/// Replaces the policy.
#[utoipa::path(put, path = "/v1/policy", tag = "policy", request_body = SetPolicy, params(
    ("Idempotency-Key" = String, Header, description = "the same for the same change"),
), responses(
    (status = 200, body = Receipt),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn set_policy(
    who: Allowed<AsOperator>,
    State(app): State<App>,
    change: Change<SetPolicy, POLICY_BODY_BYTES_MAX>,
) -> Result<Response, ApiError> {
    check_reason(change.value.reason.as_deref())?;
    app.change(&who.actor, change.request(&who), Command::SetPolicy(change.value))
        .await
}

/// Who asks.
#[utoipa::path(get, path = "/v1/whoami", tag = "tokens", responses(
    (status = 200, body = Whoami),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn whoami(who: Allowed<AsViewer>) -> Answer<Whoami> {
    super::answer(Ok(who.whoami))
}

/// A cursor is what the part before said.
pub fn cursor<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>, ApiError> {
    let malformed = |_| ApiError::invalid("cursor_malformed", "the cursor is none that a list gave");
    text.map(str::parse).transpose().map_err(malformed)
}

/// How long an answer may be held back.
pub fn wait(seconds: u64) -> Result<Duration, ApiError> {
    if seconds <= WAIT_SECONDS_MAX {
        Ok(Duration::from_secs(seconds))
    } else {
        let detail = format!("an answer is held back for at most {WAIT_SECONDS_MAX} s, not {seconds}");
        Err(ApiError::invalid("wait_invalid", detail))
    }
}
