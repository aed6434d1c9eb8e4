//! What operators ask about hosts.

use axum::extract::State;
use axum::response::Response;
use plfm_api::Problem;
use plfm_api::control::{FleetHost, HostChange, HostId, HostState, Page, Receipt};
use plfm_release::ReleaseId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::operators::cursor;
use super::pages::FleetHostPage;
use super::{
    Allowed, Answer, ApiError, App, AsAdmin, AsOperator, AsViewer, Change, Named, Params, check_reason,
    page_limit,
};
use crate::control::HostQuery;
use crate::fleet::Command;

/// Which hosts.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct HostParams {
    /// `next_cursor` of the part before.
    pub cursor: Option<String>,
    /// How many items, 50 unless told otherwise.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
    /// Only those in this state.
    pub state: Option<HostState>,
    /// Only those that have this release: its id, either label, or a build id that only one has.
    pub release: Option<String>,
}

/// Hosts, in the order of their ids.
#[utoipa::path(get, path = "/v1/hosts", tag = "fleet", params(HostParams), responses(
    (status = 200, body = FleetHostPage),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn hosts(
    _who: Allowed<AsViewer>,
    Params(params): Params<HostParams>,
    State(app): State<App>,
) -> Answer<Page<FleetHost>> {
    let fleet = app.control.fleet();
    let release = params
        .release
        .as_deref()
        .map(|text| fleet.resolve(text))
        .transpose()?;
    let query = HostQuery {
        after: cursor(params.cursor.as_deref())?,
        limit: page_limit(params.limit)?,
        state: params.state,
        release: release.map(|(release, _): (&ReleaseId, _)| release.clone()),
    };
    super::answer(app.control.hosts(&query).await)
}

/// One host.
#[utoipa::path(get, path = "/v1/hosts/{id}", tag = "fleet", params(
    ("id" = String, Path, description = "the host"),
), responses(
    (status = 200, body = FleetHost),
    (status = "default", body = Problem, content_type = "application/problem+json"),
), security(("operator" = [])))]
pub async fn host(
    _who: Allowed<AsViewer>,
    Named(host): Named<HostId>,
    State(app): State<App>,
) -> Answer<FleetHost> {
    super::answer(app.control.host(&host).await)
}

macro_rules! host_change {
    ($(#[$doc:meta])* $name:ident, $path:literal, $role:ty, $command:ident) => {
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "fleet", request_body = HostChange, params(
            ("id" = String, Path, description = "the host"),
            ("Idempotency-Key" = String, Header, description = "the same for the same change"),
        ), responses(
            (status = 200, body = Receipt),
            (status = "default", body = Problem, content_type = "application/problem+json"),
        ), security(("operator" = [])))]
        pub async fn $name(
            who: Allowed<$role>,
            Named(host): Named<HostId>,
            State(app): State<App>,
            change: Change<HostChange>,
        ) -> Result<Response, ApiError> {
            check_reason(change.value.reason.as_deref())?;
            let request = change.request(&who);
            let reason = change.value.reason;
            app.change(&who.actor, request, Command::$command { host, reason }).await
        }
    };
}

host_change!(
    /// Lets a host take no new instances.
    drain, "/v1/hosts/{id}/drain", AsOperator, Drain
);
host_change!(
    /// Lets a host take instances again.
    undrain, "/v1/hosts/{id}/undrain", AsOperator, Undrain
);
host_change!(
    /// Takes a host out of the fleet: its certificate is not accepted any more.
    revoke, "/v1/hosts/{id}/revoke", AsAdmin, RevokeHost
);
