//! Requests that are sent again, and those that meet.

use plfm_api::control::EnrolledHost;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::plane::{Plane, csr, problem, start};

async fn post(plane: &Plane, key: &str, path: &str, body: &Value) -> Response {
    plane
        .request(Method::POST, path)
        .header("idempotency-key", key)
        .json(body)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_and_happens_once() {
    let plane = start().await;
    let (release, other) = (plane.find(1).await.to_string(), plane.find(2).await.to_string());
    let enroll = json!({"host_name": "host-a"});
    let cases = [
        ("/v1/kernels/set-default", json!({"release": release})),
        ("/v1/kernels/block", json!({"release": other, "reason": "x"})),
        ("/v1/tokens", json!({"name": "x", "role": "operator"})),
        ("/v1/enrollment-tokens", enroll),
    ];
    for (number, (path, body)) in cases.iter().enumerate() {
        let key = format!("key-{number}");
        let before = plane.head().await;
        let first = post(&plane, &key, path, body).await;
        assert_eq!(first.status(), StatusCode::OK, "{path}");
        let first = first.text().await.unwrap();
        assert_eq!(plane.head().await, before + 1);
        let again = post(&plane, &key, path, body).await;
        assert_eq!(again.status(), StatusCode::OK);
        assert_eq!(
            again.text().await.unwrap(),
            first,
            "with the same secret, if there is one"
        );
        assert_eq!(plane.head().await, before + 1, "{path}");
        let mut other = body.clone();
        other["reason"] = json!("another");
        if path.ends_with("tokens") {
            other = json!({"name": "y", "role": "viewer"});
        }
        if path.starts_with("/v1/enrollment") {
            other = json!({"host_name": "host-b"});
        }
        problem(
            post(&plane, &key, path, &other).await,
            409,
            "idempotency_key_reused",
        )
        .await;
    }
}

#[tokio::test]
async fn one_request_sent_many_times_at_once_happens_once() {
    let plane = start().await;
    let before = plane.head().await;
    let body = json!({"name": "x", "role": "viewer"});
    let tries = (0..8).map(|_| post(&plane, "one", "/v1/tokens", &body));
    let answers = futures_util::future::join_all(tries).await;
    let mut texts = Vec::new();
    for answer in answers {
        assert_eq!(answer.status(), StatusCode::OK);
        texts.push(answer.text().await.unwrap());
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
    assert_eq!(plane.head().await, before + 1);
}

#[tokio::test]
async fn a_key_is_one_principals_own() {
    let plane = start().await;
    let operator = plane.token("admin").await;
    let body = json!({"host_name": "host-a"});
    let one = post(&plane, "same", "/v1/enrollment-tokens", &body)
        .await
        .text()
        .await
        .unwrap();
    let request = plane
        .client()
        .post(plane.url("/v1/enrollment-tokens"))
        .bearer_auth(operator);
    let other = request
        .header("idempotency-key", "same")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_ne!(one, other.text().await.unwrap());
}

#[tokio::test]
async fn of_two_who_expect_the_same_generation_one_is_refused() {
    let plane = start().await;
    let releases = [plane.find(1).await, plane.find(2).await];
    let tries = releases.iter().map(|release| {
        let body = json!({"release": release.to_string(), "expected_generation": 0});
        let plane = &plane;
        async move { plane.post("/v1/kernels/set-default", &body).await }
    });
    let mut statuses: Vec<u16> = futures_util::future::join_all(tries)
        .await
        .iter()
        .map(|answer| answer.status().as_u16())
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(plane.get_json("/v1/fleet").await["target"]["generation"], 1);
}

#[tokio::test]
async fn an_enrollment_token_is_for_one_host_which_may_ask_again_with_the_same_key() {
    let plane = start().await;
    let token = plane.enrollment_token().await.token;
    let (key, other) = (
        rcgen::KeyPair::generate().unwrap(),
        rcgen::KeyPair::generate().unwrap(),
    );
    let enroll = async |key: &rcgen::KeyPair| plane.enroll(&token, "host-a", &csr(key)).await;
    let first: EnrolledHost = enroll(&key).await.json().await.unwrap();
    let again: EnrolledHost = enroll(&key).await.json().await.unwrap();
    assert_eq!(again.host, first.host);
    problem(enroll(&other).await, 401, "enrollment_token_invalid").await;
    let hosts = plane.get_json("/v1/hosts").await;
    assert_eq!(hosts["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn of_many_hosts_with_one_token_one_enrols() {
    let plane = start().await;
    let token = plane.enrollment_token().await.token;
    let tries = (0..6).map(|_| async {
        let key = rcgen::KeyPair::generate().unwrap();
        plane.enroll(&token, "host-a", &csr(&key)).await.status()
    });
    let statuses = futures_util::future::join_all(tries).await;
    assert_eq!(
        statuses
            .iter()
            .filter(|status| **status == StatusCode::OK)
            .count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses
            .iter()
            .filter(|status| **status == StatusCode::UNAUTHORIZED)
            .count(),
        5
    );
}
