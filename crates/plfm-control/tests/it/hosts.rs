//! Hosts on their connections.

use plfm_api::control::{HeartbeatAnswer, HostId};
use reqwest::{Client, StatusCode, Version};
use serde_json::{Value, json};

use crate::plane::{Host, beat, csr, identity, problem, start};

#[tokio::test]
async fn a_revoked_host_is_refused_on_the_connection_that_it_has() {
    let plane = start().await;
    let host = plane.host("host-a").await;
    assert_eq!(host.beat(&beat(0)).await.status(), StatusCode::OK);
    plane
        .post_ok(
            &format!("/v1/hosts/{}/revoke", host.id),
            &json!({"reason": "stolen"}),
        )
        .await;
    problem(host.beat(&beat(0)).await, 403, "host_revoked").await;
    problem(host.target(0, 0).await, 403, "host_revoked").await;
    let key = rcgen::KeyPair::generate().unwrap();
    problem(
        host.post("certificate", &json!({"csr": csr(&key)})).await,
        403,
        "host_revoked",
    )
    .await;
    let shown = plane.get_json(&format!("/v1/hosts/{}", host.id)).await;
    assert_eq!(shown["state"], "revoked");
}

#[tokio::test]
async fn a_host_renews_its_certificate_with_another_key() {
    let plane = start().await;
    let host = plane.host("host-a").await;
    let key = rcgen::KeyPair::generate().unwrap();
    let renewed = host.post("certificate", &json!({"csr": csr(&key)})).await;
    let renewed: plfm_api::control::EnrolledHost = renewed.json().await.unwrap();
    assert_eq!(renewed.host, host.enrolled.host);
    assert!(renewed.not_after >= host.enrolled.not_after && renewed.renew_after < renewed.not_after);
    let again = Host::new(&plane, renewed, &key);
    assert_eq!(again.beat(&beat(0)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn news_count_once_however_often_they_are_sent() {
    let plane = start().await;
    let release = plane.find(1).await;
    let host = plane.host("host-a").await;
    let mut news = serde_json::to_value(beat(1)).unwrap();
    news["outcomes"] = json!([{
        "release": release.to_string(), "window": "2026-11-24T10:00:00Z", "outcome": "ready", "count": 2
    }]);
    // At once, as after a lost answer and a new connection.
    let tries = (0..6).map(|_| host.post("heartbeat", &news));
    for answer in futures_util::future::join_all(tries).await {
        let answer: HeartbeatAnswer = answer.json().await.unwrap();
        assert_eq!(answer.sequence, 1);
        assert!(answer.send_status, "its status was never told");
    }
    let detail = plane.get_json(&format!("/v1/kernels/{}", release.kernel)).await;
    assert_eq!(detail["outcomes"]["ready"], 2);
}

#[tokio::test]
async fn many_hosts_report_at_once() {
    let plane = start().await;
    let release = plane.find(1).await;
    let mut hosts = Vec::new();
    for number in 0..20 {
        hosts.push(plane.host(&format!("host-{number}")).await);
    }
    let mut news = serde_json::to_value(beat(1)).unwrap();
    news["status"] = crate::plane::status(&[&release]);
    let answers =
        futures_util::future::join_all(hosts.iter().map(|host| host.post("heartbeat", &news))).await;
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
    let fleet = plane.get_json("/v1/fleet").await;
    assert_eq!(fleet["hosts"]["active"], 20);
}

/// An old connection's way to say who it is: HTTP/1.1, and TLS 1.2.
#[tokio::test]
async fn older_protocols_are_spoken_too() {
    let plane = start().await;
    let host = plane.host("host-a").await;
    let key = rcgen::KeyPair::generate().unwrap();
    let renewed = host.post("certificate", &json!({"csr": csr(&key)})).await;
    let renewed: plfm_api::control::EnrolledHost = renewed.json().await.unwrap();
    let build = || {
        Client::builder()
            .tls_certs_only([plane.ca()])
            .identity(identity(&renewed.certificate, &key))
    };
    let clients = [
        (build().build().unwrap(), Version::HTTP_2),
        (build().http1_only().build().unwrap(), Version::HTTP_11),
        (
            build()
                .tls_version_max(reqwest::tls::Version::TLS_1_2)
                .build()
                .unwrap(),
            Version::HTTP_2,
        ),
    ];
    for (client, version) in clients {
        let host = Host::with_client(&plane, renewed.clone(), client);
        for _ in 0..3 {
            let answer = host.beat(&beat(0)).await;
            assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version));
        }
    }
}

#[tokio::test]
async fn only_as_many_hosts_fetch_at_once_as_the_policy_lets() {
    let plane = start().await;
    let release = plane.find(1).await;
    let policy = json!({"policy": {"fetches_max": 1, "lost_after_seconds": 300}});
    let set = plane
        .request(reqwest::Method::PUT, "/v1/policy")
        .header("idempotency-key", "a")
        .json(&policy);
    assert_eq!(set.send().await.unwrap().status(), StatusCode::OK);
    let mut wanting = serde_json::to_value(beat(0)).unwrap();
    wanting["wants"] = json!([release.to_string()]);
    let mut granted = 0;
    for name in ["host-a", "host-b", "host-c"] {
        let answer: Value = plane
            .host(name)
            .await
            .post("heartbeat", &wanting)
            .await
            .json()
            .await
            .unwrap();
        granted += answer["may_fetch"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(granted, 1);
}

#[tokio::test]
async fn ids_of_hosts_are_the_control_planes_own() {
    let plane = start().await;
    let (one, other) = (plane.host("same-name").await, plane.host("same-name").await);
    assert_ne!(one.id, other.id);
    assert!(one.id.parse::<HostId>().is_ok());
}
