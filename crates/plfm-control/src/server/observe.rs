//! Whether the server is well, and what it counted: plain HTTP, for whoever runs it.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use jiff::Timestamp;
use plfm_api::control::{KernelState, RolloutStage};
use plfm_api::{PROMETHEUS_CONTENT_TYPE, prometheus_text};
use tracing::warn;

use super::chain;
use crate::control::{Control, Numbers};
use crate::fleet::{FleetState, RolloutAlert, RolloutRecord, RolloutRemark};
use crate::metrics::{FleetNumbers, ReleaseNumbers};

/// `/healthz`, `/readyz` and `/metrics`.
pub fn observe_router(control: Control) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(control)
}

async fn ready(State(control): State<Control>) -> Response {
    if control.ending().is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response();
    }
    if let Err(error) = control.store().ping().await {
        warn!(code = error.code(), "not ready: {}", chain(&error));
        return (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response();
    }
    match control.health().problem(Timestamp::now()) {
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response(),
        None => "ready\n".into_response(),
    }
}

async fn metrics(State(control): State<Control>) -> Response {
    let fleet = control.fleet();
    // The numbers of the server itself are shown even if the fleet's cannot be counted.
    let numbers = match control.numbers().await {
        Ok(numbers) => Some(FleetNumbers {
            rollout_decided_seconds: control.decided_seconds_ago(control.now()).await.unwrap_or(0.0),
            ..in_metrics(&fleet, &numbers, control.rollbacks())
        }),
        Err(error) => {
            warn!("the fleet cannot be counted: {}", chain(&error));
            None
        }
    };
    match control
        .metrics()
        .render(fleet.generation().0, fleet.position(), numbers)
    {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, PROMETHEUS_CONTENT_TYPE)];
            (kind, prometheus_text(&text)).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn in_metrics(fleet: &FleetState, numbers: &Numbers, rollbacks: Vec<(&'static str, u64)>) -> FleetNumbers {
    let releases = fleet.releases().iter().map(|(release, record)| {
        let count = numbers.releases.get(release);
        let (ready, boots) = numbers.boots_of(release);
        let weight = match crate::control::kernel_state(fleet, release, record) {
            KernelState::Canary { weight } => f64::from(weight) / 10_000.0,
            KernelState::Default
            | KernelState::Previous
            | KernelState::Available
            | KernelState::Blocked { .. }
            | KernelState::RolledBack { .. }
            | KernelState::Withdrawn { .. } => 0.0,
        };
        ReleaseNumbers {
            release: release.to_string(),
            hosts_installed: count.map_or(0, |count| {
                count.hosts_installed.saturating_sub(count.hosts_current)
            }),
            hosts_current: count.map_or(0, |count| count.hosts_current),
            instances: count.map_or(0, |count| count.instances),
            outcomes: numbers.boots.get(release).map_or_else(Vec::new, |outcomes| {
                outcomes
                    .iter()
                    .map(|(outcome, boots)| (outcome.clone(), *boots))
                    .collect()
            }),
            success_ratio: (boots > 0).then(|| ready as f64 / boots as f64),
            weight,
        }
    });
    FleetNumbers {
        states: numbers
            .states
            .iter()
            .map(|(state, hosts)| (*state, *hosts))
            .collect(),
        hosts_at_generation: numbers.fleet.hosts_at_generation,
        releases: releases.collect(),
        rollbacks,
        rollout_stage: fleet.rollout_under_way().map(stage),
        rollout_decided_seconds: 0.0,
        rollout_events: counted(fleet, &EVENTS, |remark| remark.moment.kind.as_str()),
        rollout_alerts: counted(fleet, &ALERTS, |remark| {
            remark.alert.map_or("", RolloutAlert::as_str)
        }),
    }
}

/// What can happen to a rollout.
const EVENTS: [&str; 11] = [
    "started",
    "distributed",
    "widened",
    "advanced",
    "promoted",
    "settled",
    "paused",
    "resumed",
    "condemned",
    "aborted",
    "retold",
];
/// What a person must hear of.
const ALERTS: [&str; 4] = ["rolled_back", "paused", "incident", "no_way_back"];

fn stage(rollout: &RolloutRecord) -> &'static str {
    let shown = rollout.shown();
    match shown.stage {
        _ if shown.paused.is_some() => "paused",
        RolloutStage::Planned | RolloutStage::Distributing => "distributing",
        RolloutStage::Canary => "canary",
        RolloutStage::Promoting => "promoting",
        RolloutStage::RollingBack => "rolling_back",
        RolloutStage::Complete | RolloutStage::RolledBack | RolloutStage::Aborted => "over",
    }
}

fn counted(
    fleet: &FleetState,
    words: &[&'static str],
    word_of: impl Fn(&RolloutRemark) -> &str,
) -> Vec<(&'static str, u64)> {
    let remarks = || fleet.rollouts().iter().flat_map(|rollout| &rollout.history);
    let count = |word: &&'static str| {
        let found = remarks().filter(|remark| word_of(remark) == *word).count();
        (*word, u64::try_from(found).unwrap_or(u64::MAX))
    };
    words.iter().map(count).collect()
}
