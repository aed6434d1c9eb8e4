//! What each endpoint does when all is well, and the document that describes them.

use std::collections::BTreeSet;

use plfm_api::control::{Event, Heartbeat, HeartbeatAnswer, Kernel, Page, Receipt, Target, WAIT_SECONDS_MAX};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::plane::{Plane, beat, release, start, status};

#[test]
fn the_document_is_what_the_code_describes() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let made = plfm_control::server::openapi().to_pretty_json().unwrap() + "\n";
    assert!(
        std::fs::read_to_string(kept).unwrap_or_default() == made,
        "docs/openapi.json is old: `plfm-control openapi > docs/openapi.json`"
    );
}

#[tokio::test]
async fn the_document_is_served_to_anybody() {
    let plane = start().await;
    let served = plane
        .client()
        .get(plane.url("/v1/openapi.json"))
        .send()
        .await
        .unwrap();
    let served: Value = served.json().await.unwrap();
    let made = serde_json::to_value(plfm_control::server::openapi()).unwrap();
    assert_eq!(served, made);
}

async fn beat_with(
    plane: &Plane,
    host: &crate::plane::Host,
    sequence: u64,
    change: Value,
) -> HeartbeatAnswer {
    let mut asked = serde_json::to_value(beat(sequence)).unwrap();
    for (name, value) in change.as_object().unwrap() {
        asked[name] = value.clone();
    }
    let asked: Heartbeat = serde_json::from_value(asked).unwrap();
    let answer = host.beat(&asked).await;
    assert_eq!(
        answer.status(),
        StatusCode::OK,
        "{:?} {}",
        asked,
        plane.head().await
    );
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_release_goes_from_the_registry_to_hosts_and_back() {
    let plane = start().await;
    let (first, second) = (plane.find(1).await, plane.find(2).await);
    let host = plane.host("host-a").await;
    let answer = beat_with(&plane, &host, 1, json!({"status": status(&[&first, &second])})).await;
    assert_eq!(
        (answer.sequence, answer.generation.0, answer.target),
        (1, 0, None)
    );
    assert!(answer.next_heartbeat_ms >= 9_000 && !answer.send_status && !answer.drain);

    let set = plane
        .post_ok("/v1/kernels/set-default", &json!({"release": first.to_string()}))
        .await;
    let set: Receipt = serde_json::from_value(set).unwrap();
    assert!(set.changed && set.generation.0 == 1 && set.release == Some(first.clone()));
    let set = plane
        .post_ok(
            "/v1/kernels/set-default",
            &json!({"release": second.kernel.to_string()}),
        )
        .await;
    assert_eq!(set["generation"], 2);

    let answer = beat_with(&plane, &host, 1, json!({"generation": 1})).await;
    let target = answer.target.unwrap();
    assert_eq!(
        (target.default, target.previous),
        (Some(second.clone()), Some(first.clone()))
    );
    let outcomes = json!([
        {"release": second.to_string(), "window": "2026-11-24T10:00:00Z", "outcome": "ready", "count": 3,
         "ready_ms_total": 900, "ready_ms_max": 400},
        {"release": second.to_string(), "window": "2026-11-24T10:00:00Z", "outcome": "kernel_panic", "count": 1},
        {"release": second.to_string(), "window": "2026-11-24T10:01:00Z", "outcome": "customer_failure", "count": 7},
    ]);
    let answer = beat_with(&plane, &host, 2, json!({"generation": 2, "outcomes": outcomes})).await;
    assert_eq!((answer.sequence, answer.target), (2, None));

    // Numbers are kept for a second, unless the log goes on.
    plane.enrollment_token().await;
    let kernels: Page<Kernel> = serde_json::from_value(plane.get_json("/v1/kernels").await).unwrap();
    let line = kernels
        .items
        .iter()
        .find(|kernel| kernel.release == second)
        .unwrap();
    assert_eq!(
        (line.boots_ready, line.boots, line.hosts, line.instances),
        (3, 4, 1, 3)
    );
    assert_eq!(line.hosts_active, 1);
    let detail = plane.get_json(&format!("/v1/kernels/{}", second.kernel)).await;
    assert_eq!(detail["state"], "default");
    assert_eq!(detail["outcomes"]["customer_failure"], 7);
    assert_eq!(detail["default_in"], json!([2]));

    let fleet = plane.get_json("/v1/fleet").await;
    assert_eq!(fleet["hosts"]["active"], 1);
    assert_eq!(fleet["hosts_at_generation"], 1);
    assert_eq!(fleet["hosts_with_default"], 1);

    let back = plane
        .post_ok("/v1/kernels/rollback", &json!({"reason": "panics"}))
        .await;
    assert_eq!(back["generation"], 3);
    assert_eq!(back["release"], first.to_string());
    let detail = plane.get_json(&format!("/v1/kernels/{}", second.kernel)).await;
    assert_eq!(detail["state"], "rolled_back");
    let target: Target = host.target(2, 0).await.json().await.unwrap();
    assert_eq!((target.generation.0, target.default), (3, Some(first)));
}

#[tokio::test]
async fn releases_are_blocked_and_unblocked() {
    let plane = start().await;
    let release = plane.find(1).await;
    let blocked = plane
        .post_ok(
            "/v1/kernels/block",
            &json!({"release": release.to_string(), "reason": "bad"}),
        )
        .await;
    assert_eq!(blocked["generation"], 1);
    let path = format!("/v1/kernels/{}", release.kernel.build_id);
    assert_eq!(plane.get_json(&path).await["state"], "blocked");
    plane
        .post_ok("/v1/kernels/unblock", &json!({"release": release.to_string()}))
        .await;
    assert_eq!(plane.get_json(&path).await["state"], "available");
}

#[tokio::test]
async fn hosts_are_listed_by_page_state_and_release_and_can_be_drained() {
    let plane = start().await;
    let release = plane.find(1).await;
    let hosts = [
        plane.host("host-a").await,
        plane.host("host-b").await,
        plane.host("host-c").await,
    ];
    beat_with(&plane, &hosts[1], 1, json!({"status": status(&[&release])})).await;
    let names = async |path: &str| {
        let page = plane.get_json(path).await;
        let items = page["items"].as_array().unwrap();
        items
            .iter()
            .map(|host| host["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("/v1/hosts").await, ["host-a", "host-b", "host-c"]);
    assert_eq!(names("/v1/hosts?state=active").await, ["host-b"]);
    assert_eq!(names("/v1/hosts?state=enrolled&limit=1").await, ["host-a"]);
    assert_eq!(
        names(&format!("/v1/hosts?release={}", release.kernel)).await,
        ["host-b"]
    );
    let page = plane.get_json("/v1/hosts?limit=2").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(
        names(&format!("/v1/hosts?cursor={cursor}&limit=2")).await,
        ["host-c"]
    );

    plane
        .post_ok(
            &format!("/v1/hosts/{}/drain", hosts[1].id),
            &json!({"reason": "disk"}),
        )
        .await;
    assert!(beat_with(&plane, &hosts[1], 1, json!({})).await.drain);
    let shown = plane.get_json(&format!("/v1/hosts/{}", hosts[1].id)).await;
    assert_eq!(
        (&shown["state"], &shown["status"]["vmm"]),
        (&json!("draining"), &json!("qemu"))
    );
    plane
        .post_ok(&format!("/v1/hosts/{}/undrain", hosts[1].id), &json!({}))
        .await;
    assert!(!beat_with(&plane, &hosts[1], 1, json!({})).await.drain);
}

#[tokio::test]
async fn the_policy_is_replaced_as_a_whole() {
    let plane = start().await;
    let policy = json!({"fetches_max": 7, "lost_after_seconds": 90});
    let set = plane
        .request(Method::PUT, "/v1/policy")
        .header("idempotency-key", "a")
        .json(&json!({"policy": policy, "expected_generation": 0}))
        .send()
        .await
        .unwrap();
    assert_eq!(set.status(), StatusCode::OK);
    let current = plane.get_json("/v1/policy").await;
    assert_eq!((&current["policy"], &current["generation"]), (&policy, &json!(1)));
}

#[tokio::test]
async fn tokens_work_until_they_are_revoked() {
    let plane = start().await;
    let made = plane
        .post_ok("/v1/tokens", &json!({"name": "ci", "role": "viewer"}))
        .await;
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let whoami = async || {
        let request = plane.client().get(plane.url("/v1/whoami")).bearer_auth(token);
        request.send().await.unwrap()
    };
    let who: Value = whoami().await.json().await.unwrap();
    assert_eq!(
        (&who["id"], &who["name"], &who["role"]),
        (&json!(id), &json!("ci"), &json!("viewer"))
    );
    let listed = plane.get_json("/v1/tokens").await;
    assert!(
        listed["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["id"] == id && one["state"] == "active")
    );
    plane
        .post_ok(&format!("/v1/tokens/{id}/revoke"), &json!({"reason": "left"}))
        .await;
    crate::plane::problem(whoami().await, 401, "token_revoked").await;
}

#[tokio::test]
async fn enrollment_tokens_are_listed_and_revoked() {
    let plane = start().await;
    let made = plane.enrollment_token().await;
    plane
        .post_ok(&format!("/v1/enrollment-tokens/{}/revoke", made.id), &json!({}))
        .await;
    let listed = plane.get_json("/v1/enrollment-tokens").await;
    assert_eq!(listed["items"][0]["state"], "revoked");
    let key = rcgen::KeyPair::generate().unwrap();
    let refused = plane
        .enroll(&made.token, "host-a", &crate::plane::csr(&key))
        .await;
    crate::plane::problem(refused, 401, "enrollment_token_invalid").await;
}

#[tokio::test]
async fn lists_of_releases_and_tokens_have_pages() {
    let plane = start().await;
    for number in 1..=5 {
        plane.find(number).await;
        plane.enrollment_token().await;
    }
    for (path, member) in [("/v1/kernels", "release"), ("/v1/enrollment-tokens", "id")] {
        let whole = plane.get_json(path).await;
        let ids = |page: &Value| {
            let items = page["items"].as_array().unwrap().iter();
            items
                .map(|item| item[member].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        for _ in 0..3 {
            let page = plane.get_json(&format!("{path}?limit=2{cursor}")).await;
            seen.extend(ids(&page));
            cursor = page["next_cursor"].as_str().map_or(String::new(), |next| {
                format!("&cursor={}", next.replace('+', "%2B"))
            });
        }
        assert_eq!(seen, ids(&whole), "{path}");
        assert!(cursor.is_empty());
    }
}

#[tokio::test]
async fn every_change_is_in_the_log_with_who_what_when_and_from_where() {
    let plane = start().await;
    let (first, second) = (plane.find(1).await, plane.find(2).await);
    let host = plane.host("host-a").await;
    let before = plane.head().await;
    let (first, second) = (first.to_string(), second.to_string());
    let made = plane
        .post_ok("/v1/tokens", &json!({"name": "x", "role": "viewer"}))
        .await;
    let enroll = plane.enrollment_token().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let changes: Vec<(String, Value)> = vec![
        ("/v1/kernels/set-default".to_owned(), json!({"release": first})),
        (
            "/v1/kernels/set-default".to_owned(),
            json!({"release": second, "despite_unable_hosts": true}),
        ),
        (
            "/v1/kernels/rollback".to_owned(),
            json!({"despite_missing_hosts": true}),
        ),
        (
            "/v1/kernels/block".to_owned(),
            json!({"release": second, "reason": "bad"}),
        ),
        ("/v1/kernels/unblock".to_owned(), json!({"release": second})),
        (format!("/v1/hosts/{}/drain", host.id), json!({})),
        (format!("/v1/hosts/{}/undrain", host.id), json!({})),
        (
            format!("/v1/tokens/{}/revoke", made["id"].as_str().unwrap()),
            json!({}),
        ),
        (format!("/v1/enrollment-tokens/{}/revoke", enroll.id), json!({})),
    ];
    let mut requests = Vec::new();
    for (path, body) in &changes {
        let answer = plane.post(path, body).await;
        requests.push(answer.headers()["x-request-id"].to_str().unwrap().to_owned());
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    let renewed = host
        .post("certificate", &json!({"csr": crate::plane::csr(&key)}))
        .await;
    assert_eq!(renewed.status(), StatusCode::OK);
    plane
        .post_ok(
            &format!("/v1/hosts/{}/revoke", host.id),
            &json!({"reason": "stolen"}),
        )
        .await;
    let events = plane.events(before).await.items;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let expected = [
        "token_created",
        "enrollment_token_created",
        "default_set",
        "default_set",
        "rolled_back",
        "release_blocked",
        "release_unblocked",
        "host_drained",
        "host_undrained",
        "token_revoked",
        "enrollment_token_revoked",
        "certificate_issued",
        "host_revoked",
    ];
    assert_eq!(kinds, expected);
    let now = jiff::Timestamp::now();
    for event in &events {
        assert_eq!(event.actor.address.as_deref(), Some("127.0.0.1"), "{event:?}");
        assert!(event.at <= now && now.as_second() - event.at.as_second() < 60);
        let (kind, name) = match event.kind.as_str() {
            "certificate_issued" => ("host", "host-a"),
            _ => ("operator", "first admin"),
        };
        assert_eq!(
            (event.actor.kind.as_str(), event.actor.name.as_str()),
            (kind, name)
        );
    }
    let logged: Vec<&str> = events[2..11]
        .iter()
        .filter_map(|event| event.actor.request_id.as_deref())
        .collect();
    assert_eq!(logged, requests, "the answer names the request as the log does");
}

#[tokio::test]
async fn the_log_can_be_followed_and_filtered() {
    let plane = start().await;
    plane.find(1).await;
    let end = plane.events(0).await.next_after;
    let waiting = {
        let request = plane.request(
            Method::GET,
            &format!("/v1/events?after={end}&wait_seconds={WAIT_SECONDS_MAX}"),
        );
        tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await.unwrap() })
    };
    // What comes is seen whether the poll waits by then or not.
    let release = plane.find(2).await;
    let page = waiting.await.unwrap();
    assert_eq!(page["items"][0]["aggregate"], format!("release/{release}"));
    let only = plane
        .get_json(&format!(
            "/v1/events?aggregate=release/{}",
            release.to_string().replace('+', "%2B")
        ))
        .await;
    assert_eq!(only["items"].as_array().unwrap().len(), 1);
    assert_eq!(only["next_after"], end + 1);
    let events: Vec<Event> = plane.events(0).await.items;
    let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
    assert_eq!(positions, (1..=end + 1).collect::<Vec<_>>());
    let page = plane.get_json("/v1/events?limit=1").await;
    assert_eq!((&page["more"], &page["next_after"]), (&json!(true), &json!(1)));
}

#[tokio::test]
async fn a_poll_for_the_target_is_answered_within_a_second_of_the_change() {
    let plane = start().await;
    plane.find(1).await;
    let host = std::sync::Arc::new(plane.host("host-a").await);
    assert_eq!(host.target(0, 0).await.status(), StatusCode::NO_CONTENT);
    let polling = std::sync::Arc::clone(&host);
    let poll = tokio::spawn(async move { polling.target(0, 55).await });
    while plane.running.control.metrics().long_polls().get() == 0 {
        tokio::task::yield_now().await;
    }
    let set = std::time::Instant::now();
    plane
        .post_ok(
            "/v1/kernels/set-default",
            &json!({"release": release(1).to_string()}),
        )
        .await;
    let target: Target = poll.await.unwrap().json().await.unwrap();
    assert!(
        set.elapsed() < std::time::Duration::from_secs(1),
        "{:?}",
        set.elapsed()
    );
    assert_eq!(target.generation.0, 1);
}

#[tokio::test]
async fn the_metrics_are_those_of_their_page() {
    let plane = start().await;
    let release = plane.find(1).await;
    let host = plane.host("host-a").await;
    let outcomes = json!([{"release": release.to_string(), "window": "2026-11-24T10:00:00Z", "outcome": "ready", "count": 3}]);
    beat_with(
        &plane,
        &host,
        1,
        json!({"status": status(&[&release]), "outcomes": outcomes}),
    )
    .await;
    crate::plane::problem(
        plane.client().get(plane.url("/v1/fleet")).send().await.unwrap(),
        401,
        "token_missing",
    )
    .await;
    plane.running.control.metrics().registry_update("ok");
    let watched = format!("http://{}", plane.running.metrics_address.unwrap());
    let get = async |path: &str| reqwest::get(format!("{watched}{path}")).await.unwrap();
    assert_eq!(get("/healthz").await.status(), StatusCode::OK);
    assert_eq!(get("/readyz").await.status(), StatusCode::OK);
    let text = get("/metrics").await.text().await.unwrap();
    let without = |name: &str| {
        let parts = ["_bucket", "_sum", "_count"];
        parts
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .unwrap_or(name)
            .to_owned()
    };
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let served: BTreeSet<String> = samples
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(without)
        .collect();
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md")).unwrap();
    let told: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `plfm_")?.split_once('`'))
        .map(|(name, _)| format!("plfm_{name}"))
        .filter(|name| !name.starts_with("plfm_agent_"))
        .collect();
    assert_eq!(served, told);
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    assert_eq!(
        value(&format!(
            "plfm_boots_total{{release=\"{release}\",outcome=\"ready\"}}"
        )),
        Some("3")
    );
    assert_eq!(
        value(&format!("plfm_fleet_instances{{release=\"{release}\"}}")),
        Some("3")
    );
    assert_eq!(value("plfm_fleet_hosts_by_state{state=\"active\"}"), Some("1"));
}
