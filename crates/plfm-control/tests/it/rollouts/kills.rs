//! The control plane is killed while a rollout is under way.

use plfm_api::control::EnrolledHost;
use plfm_control::fleet::Command;
use reqwest::Client;
use serde_json::{Value, json};

use super::webhook::{Receiver, write_secret};
use crate::plane::{beat, ca, client, csr, found, identity, registry, status};
use crate::program::{Program, init};

/// The registry had these before the control plane began.
async fn find(dir: &std::path::Path, numbers: &[u32]) {
    let database = format!("sqlite:{}", dir.join("control.db").display());
    let store = plfm_control::store::Store::open(&database).await.unwrap();
    for number in numbers {
        let command = Command::FindRelease(found(*number));
        let fleet = plfm_control::rebuild(&database).await.unwrap();
        let context = plfm_control::fleet::Context::at(jiff::Timestamp::now());
        let decision = fleet.decide(&command, &context).unwrap();
        let events: Vec<_> = decision
            .facts
            .iter()
            .map(|fact| {
                let (kind, detail) = fact.to_log();
                plfm_control::store::NewEvent {
                    aggregate: fact.aggregate(),
                    at: context.now,
                    actor: registry(),
                    kind,
                    detail,
                }
            })
            .collect();
        store.append(fleet.position(), &events, None).await.unwrap();
    }
    store.close().await;
}

async fn post(client: &Client, program: &Program, admin: &str, path: &str, body: Value) -> Value {
    let request = client
        .post(program.url(path))
        .bearer_auth(admin)
        .header("idempotency-key", ulid::Ulid::generate().to_string());
    let answer = request.json(&body).send().await.unwrap();
    assert!(
        answer.status().is_success(),
        "{path}: {}",
        answer.text().await.unwrap()
    );
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_goes_on_after_a_kill_and_the_webhook_hears_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let admin = init(dir.path());
    find(dir.path(), &[1, 2]).await;
    let receiver = Receiver::start(u32::MAX).await;
    let config = dir.path().join("control.toml");
    let mut settings = std::fs::read_to_string(&config).unwrap();
    settings.push_str(&format!(
        "\n[webhook]\nurl = '{}'\nsecret_file = '{}'\n",
        receiver.url,
        write_secret(dir.path()).display()
    ));
    std::fs::write(&config, settings).unwrap();
    let program = Program::start(dir.path());
    let operator = client(ca(dir.path()), None);
    let (old, new) = (found(1).release, found(2).release);
    let set = json!({"release": old.to_string()});
    post(&operator, &program, &admin, "/v1/kernels/set-default", set).await;
    let token = post(&operator, &program, &admin, "/v1/enrollment-tokens", json!({})).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let enroll = json!({
        "token": token["token"], "name": "host-a", "csr": csr(&key), "agent_version": "1.0.0", "arch": "x86_64",
    });
    let enrolled = operator
        .post(program.url("/v1/hosts/enroll"))
        .json(&enroll)
        .send();
    let enrolled: EnrolledHost = enrolled.await.unwrap().json().await.unwrap();
    let body = json!({"release": new.to_string(), "plan": {"probe": []}});
    let started = post(&operator, &program, &admin, "/v1/rollouts", body).await;
    // It was decided; nobody has heard of it.
    program.says("the webhook was not told").await;
    let log = program.log.lock().unwrap().clone();
    assert!(
        !log.contains("shown-to-nobody"),
        "the webhook's address is in the log"
    );
    program.kill();
    receiver.fail(0);
    let program = Program::start(dir.path());
    let notices = receiver.until("started").await;
    assert_eq!(notices[0]["position"], started["event"]);
    // The host has it by now: the first wave begins without anybody's doing.
    let host = client(ca(dir.path()), Some(identity(&enrolled.certificate, &key)));
    let mut news = serde_json::to_value(beat(1)).unwrap();
    news["status"] = status(&[&old, &new]);
    let url = program.url(&format!("/v1/hosts/{}/heartbeat", enrolled.host));
    assert!(
        host.post(url)
            .json(&news)
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    let notices = receiver.until("distributed").await;
    assert_eq!(notices.len(), 2);
    assert_eq!(notices[1]["rollout"]["wave"]["wave"], 1);
}
