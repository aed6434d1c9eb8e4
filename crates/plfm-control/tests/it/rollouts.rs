//! Rollouts through the real server, with hosts that report what they are told to.

mod fleet;
mod kills;
mod webhook;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::plane::{problem, start};
use crate::support::postgres::Postgres;
use fleet::{Fleet, PATIENCE, plan, quick_plan};

async fn is_taken_back(mut fleet: Fleet) {
    fleet.start(&quick_plan()).await;
    fleet.wait_for("distributed").await;
    assert_eq!(fleet.target().await["canary"]["weight"], 5_000);
    fleet.pass_minutes(2).await;
    fleet.boot("failed", "ready").await;
    fleet.pass_minutes(1).await;
    fleet.wait_for("condemned").await;
    for host in 0..fleet.hosts.len() {
        let target = fleet.target_of(host).await;
        assert_eq!(target["default"], fleet.old.to_string());
        assert!(
            target["canary"].is_null() && target["prefetch"].is_null(),
            "{target}"
        );
    }
    fleet.follow().await;
    fleet.wait_for("settled").await;
    let shown = fleet.show(&fleet.id.clone()).await;
    assert_eq!(shown["stage"], "rolled_back");
    assert_eq!(shown["back_to"], fleet.old.to_string());
    let why = shown["history"].as_array().unwrap();
    let why = why.iter().find(|moment| moment["kind"] == "condemned").unwrap();
    assert!(
        why["why"].as_str().unwrap().starts_with("rolled back to"),
        "{why}"
    );
    assert_eq!(why["actor"]["id"], "rollouts");
    let kernel = format!("/v1/kernels/{}", fleet.new.kernel);
    assert_eq!(fleet.plane.get_json(&kernel).await["state"], "rolled_back");
    let metrics = fleet.metrics().await;
    assert!(
        metrics.contains(r#"plfm_rollbacks_total{trigger="worse_than_baseline"} 1"#),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_always_fails_is_taken_back_by_itself() {
    is_taken_back(Fleet::of(start().await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_always_fails_is_taken_back_over_postgresql() {
    let database = Postgres::shared().database().await;
    is_taken_back(Fleet::over(&database).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_release_becomes_the_default() {
    let mut fleet = Fleet::of(start().await).await;
    fleet.start(&quick_plan()).await;
    fleet.wait_for("distributed").await;
    fleet.pass_minutes(1).await;
    fleet.boot("ready", "ready").await;
    fleet.pass_minutes(1).await;
    fleet.wait_for("advanced").await;
    assert_eq!(fleet.target().await["canary"]["weight"], 9_900);
    fleet.boot("ready", "ready").await;
    fleet.pass_minutes(1).await;
    fleet.wait_for("promoted").await;
    assert_eq!(fleet.target().await["default"], fleet.new.to_string());
    fleet.follow().await;
    fleet.wait_for("settled").await;
    let list = fleet.plane.get_json("/v1/rollouts").await;
    assert_eq!(list["items"][0]["stage"], "complete");
    let target = fleet.target().await;
    assert_eq!(
        (&target["default"], &target["previous"]),
        (&json!(fleet.new.to_string()), &json!(fleet.old.to_string()))
    );
    assert_eq!(
        fleet.plane.get("/v1/rollouts/current").await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_pauses_the_rollout_and_blames_nobody() {
    let mut fleet = Fleet::of(start().await).await;
    fleet.start(&quick_plan()).await;
    fleet.wait_for("distributed").await;
    fleet.pass_minutes(2).await;
    fleet.boot("vmm_failed", "vmm_failed").await;
    fleet.pass_minutes(1).await;
    fleet.wait_for("paused_kept").await;
    let shown = fleet.show("current").await;
    assert_eq!(
        (&shown["stage"], &shown["paused"]),
        (&json!("canary"), &json!("kept"))
    );
    // Also after it was looked at again: what to do depends on why it waits.
    let looked = fleet.control().store().view().await.unwrap().map(|view| view.at);
    let is_looked_at_again = async {
        while fleet.control().store().view().await.unwrap().map(|view| view.at) == looked {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_looked_at_again).await.unwrap();
    let shown = fleet.show("current").await;
    assert!(shown["why"].as_str().unwrap().starts_with("frozen: "), "{shown}");
    let metrics = fleet.metrics().await;
    assert!(
        metrics.contains(r#"plfm_rollout_alerts_total{alert="incident"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"plfm_rollout_stage{stage="paused"} 1"#),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn why_it_is_where_it_is_can_be_asked_at_any_time() {
    let mut fleet = Fleet::of(start().await).await;
    fleet.start(&plan(&json!({"probe": [16]}))).await;
    fleet.wait_for("distributed").await;
    let shown = loop {
        fleet.follow().await;
        let shown = fleet.show("current").await;
        if shown["hosts"]["active"] == fleet.hosts.len() {
            break shown;
        }
        tokio::task::yield_now().await;
    };
    let why = shown["why"].as_str().unwrap();
    assert!(why.starts_with("wave 1 probes with"), "{shown}");
    assert_eq!(
        (&shown["wave"]["wave"], &shown["wave"]["boots_max"]),
        (&json!(1), &json!(16))
    );
    assert!(shown["sample_needed"].is_number() && shown["soak_ends_at"].is_string());
    assert_eq!(shown["plan"]["threshold"], 1_000);
    assert_eq!(shown["history"][0]["kind"], "started");
    // Each host may begin as many as the bound divided by the hosts.
    let target = fleet.target().await;
    assert_eq!(target["canary"]["cohort"]["boots_each"], 16 / fleet.hosts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_take_each_decision_once() {
    let database = Postgres::shared().database().await;
    let mut fleet = Fleet::over(&database).await;
    let other = fleet.another_replica().await;
    fleet.start(&quick_plan()).await;
    fleet.wait_for("distributed").await;
    fleet.pass_minutes(2).await;
    fleet.boot("failed", "ready").await;
    fleet.pass_minutes(1).await;
    fleet.wait_for("condemned").await;
    fleet.follow().await;
    fleet.wait_for("settled").await;
    let mut kinds: Vec<Value> = fleet.rollout_events().await;
    let all = kinds.len();
    kinds.dedup();
    assert_eq!(kinds.len(), all, "{kinds:?}");
    let shown = fleet.show(&fleet.id.clone()).await;
    let why = shown["why"].as_str().unwrap();
    assert!(why.starts_with("rolled back to "), "{shown}");
    let follows = async {
        while !other.control.fleet().rollouts()[0].is_over() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, follows).await.unwrap();
    assert_eq!(other.control.fleet().rollouts()[0].shown().why, why);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut fleet = Fleet::of(start().await).await;
    let head = fleet.plane.head().await;
    let start = |plan: Value| json!({"release": fleet.new.to_string(), "plan": plan});
    let post = |path: &'static str, body: Value| {
        let plane = &fleet.plane;
        async move { plane.post(path, &body).await }
    };
    let wrong = post("/v1/rollouts", start(json!({"margin": 9_000}))).await;
    problem(wrong, 422, "plan_threshold").await;
    let wrong = post("/v1/rollouts", start(json!({"waves": []}))).await;
    problem(wrong, 422, "plan_waves").await;
    let wrong = post("/v1/rollouts", start(json!({"mragin": 1}))).await;
    problem(wrong, 422, "json_unexpected").await;
    let wrong = post("/v1/rollouts", json!({"release": "x"})).await;
    problem(wrong, 404, "release_unknown").await;
    let wrong = post("/v1/rollouts/current/abort", json!({})).await;
    problem(wrong, 404, "no_rollout").await;
    let wrong = post("/v1/rollouts/01JZZZZZZZZZZZZZZZZZZZZZZZ/pause", json!({})).await;
    problem(wrong, 404, "rollout_unknown").await;
    problem(
        fleet.plane.get("/v1/rollouts?cursor=x").await,
        422,
        "cursor_malformed",
    )
    .await;
    assert_eq!(fleet.plane.head().await, head);
    fleet.start(&quick_plan()).await;
    let wrong = fleet
        .plane
        .post("/v1/rollouts", &json!({"release": fleet.new.to_string()}))
        .await;
    problem(wrong, 409, "rollout_under_way").await;
    let wrong = fleet
        .plane
        .post("/v1/rollouts/current/abort", &json!({"withdraw": true}))
        .await;
    problem(wrong, 422, "withdraw_without_pause").await;
    let wrong = fleet
        .plane
        .post("/v1/rollouts/current/abort", &json!({"expected_generation": 1}))
        .await;
    problem(wrong, 409, "generation_moved").await;
    let receipt = fleet
        .plane
        .post_ok("/v1/rollouts/current/abort", &json!({"reason": "enough"}))
        .await;
    assert_eq!(receipt["rollout"], fleet.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_to_ready_that_cannot_be_are_refused() {
    let fleet = Fleet::of(start().await).await;
    for buckets in [
        json!([[3, 1], [2, 2]]),
        json!([[3, 1]]),
        json!([[3, 0], [4, 3]]),
        json!([[200, 3]]),
    ] {
        let answer = fleet.report(0, &fleet.old, "ready", 3, &buckets).await;
        problem(answer, 422, "heartbeat_invalid").await;
    }
    let answer = fleet.report(0, &fleet.old, "failed", 3, &json!([[3, 3]])).await;
    problem(answer, 422, "heartbeat_invalid").await;
    let answer = fleet
        .report(0, &fleet.old, "ready", 3, &json!([[2, 1], [3, 2]]))
        .await;
    assert_eq!(answer.status(), StatusCode::OK);
}
