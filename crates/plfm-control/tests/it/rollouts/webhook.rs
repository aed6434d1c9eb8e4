//! Somebody who is told, and does not always answer.

use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::sync::Notify;

use super::fleet::{Fleet, quick_plan};
use crate::plane::start_with;

pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[derive(Default)]
struct Heard {
    notices: Mutex<Vec<Value>>,
    /// Answers that are errors, before the first that is none.
    failures: Mutex<u32>,
    news: Notify,
}

/// Takes notices.
#[derive(Clone)]
pub struct Receiver {
    heard: Arc<Heard>,
    pub url: String,
}

impl Receiver {
    pub async fn start(failures: u32) -> Self {
        let heard = Arc::new(Heard {
            failures: Mutex::new(failures),
            ..Heard::default()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "http://{}/hook?token=shown-to-nobody",
            listener.local_addr().unwrap()
        );
        let router = Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&heard));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { heard, url }
    }

    /// From now on it answers with this many errors first.
    pub fn fail(&self, times: u32) {
        *self.heard.failures.lock().unwrap() = times;
    }

    /// What was taken, once a notice says that this happened.
    pub async fn until(&self, kind: &str) -> Vec<Value> {
        let wait = async {
            loop {
                let news = self.heard.news.notified();
                let notices = self.heard.notices.lock().unwrap().clone();
                if notices.iter().any(|notice| notice["kind"] == kind) {
                    return notices;
                }
                news.await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
        waited.unwrap_or_else(|_| panic!("no {kind}: {:?}", self.heard.notices.lock().unwrap()))
    }
}

async fn take(State(heard): State<Arc<Heard>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = headers["plfm-signature"].to_str().unwrap();
    let signature = hex::decode(signature.strip_prefix("sha256=").unwrap()).unwrap();
    assert!(hmac::verify(&key, &body, &signature).is_ok());
    let is_failing = {
        let mut failures = heard.failures.lock().unwrap();
        let is_failing = *failures > 0;
        *failures = failures.saturating_sub(1);
        is_failing
    };
    if !is_failing {
        let notice = serde_json::from_slice(&body).unwrap();
        heard.notices.lock().unwrap().push(notice);
    }
    heard.news.notify_one();
    if is_failing {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::NO_CONTENT
    }
}

pub fn write_secret(dir: &std::path::Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("webhook.secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_hears_of_everything_in_order_even_if_it_fails_now_and_then() {
    let receiver = Receiver::start(2).await;
    let secrets = tempfile::tempdir().unwrap();
    let webhook = plfm_control::settings::WebhookSettings {
        url: receiver.url.parse().unwrap(),
        secret_file: write_secret(secrets.path()),
    };
    let plane = start_with(|settings| plfm_control::settings::Settings {
        webhook: Some(webhook),
        ..settings
    })
    .await;
    let mut fleet = Fleet::of(plane).await;
    fleet.start(&quick_plan()).await;
    fleet.wait_for("distributed").await;
    fleet.pass_minutes(2).await;
    fleet.boot("kernel_panic", "ready").await;
    fleet.pass_minutes(1).await;
    fleet.wait_for("condemned").await;
    fleet.follow().await;
    let notices = receiver.until("settled").await;
    let of = |name: &str| {
        notices
            .iter()
            .map(|notice| notice[name].clone())
            .collect::<Vec<_>>()
    };
    let kinds = of("kind");
    assert_eq!((&kinds[0], &kinds[1]), (&"started".into(), &"distributed".into()));
    let positions: Vec<u64> = of("position")
        .iter()
        .map(|position| position.as_u64().unwrap())
        .collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
    let condemned = notices
        .iter()
        .find(|notice| notice["kind"] == "condemned")
        .unwrap();
    assert_eq!(condemned["alert"], "rolled_back");
    assert_eq!(condemned["rollout"]["stage"], "rolling_back");
    let metrics = fleet.metrics().await;
    assert!(
        metrics.contains(r#"plfm_webhook_deliveries_total{outcome="failed"} 2"#),
        "{metrics}"
    );
}
