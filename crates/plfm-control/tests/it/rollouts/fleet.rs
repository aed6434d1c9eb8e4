//! A control plane whose clock is put forward, and a few hosts with two releases.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use plfm_control::clock::Clock;
use plfm_control::control::Control;
use plfm_control::settings::Given;
use plfm_control::{Running, init, serve};
use plfm_release::ReleaseId;
use reqwest::Response;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::plane::{Host, Plane, given, run, status};

const HOSTS: usize = 6;
/// Longest wait for an event.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A plan without waiting.
pub fn quick_plan() -> Value {
    plan(&json!({"probe": []}))
}

pub fn plan(change: &Value) -> Value {
    let wave =
        |share: u16| json!({"share": share, "sample_min": 10, "soak_seconds": 0, "wait_seconds": 86_400});
    let mut plan = json!({
        "waves": [wave(5_000), wave(10_000)],
        "judged_after_seconds": 0,
        "compared_with": 10,
    });
    for (name, value) in change.as_object().unwrap() {
        plan[name] = value.clone();
    }
    plan
}

pub struct Fleet {
    pub plane: Plane,
    pub hosts: Vec<Host>,
    pub old: ReleaseId,
    pub new: ReleaseId,
    pub id: String,
    position: u64,
    sequence: AtomicU64,
    database: Option<String>,
    others: Vec<DropGuard>,
}

/// Another replica.
pub struct Replica {
    pub control: Control,
    _running: Running,
}

impl Fleet {
    pub async fn over(database: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let given = Given {
            database: Some(database.to_owned()),
            ..given()
        };
        let made = init(dir.path(), given, Timestamp::now()).await.unwrap();
        let address = database.to_owned();
        let plane = run(dir, made.admin_token, |settings| {
            plfm_control::settings::Settings {
                database: address,
                ..settings
            }
        })
        .await;
        Self {
            database: Some(database.to_owned()),
            ..Self::of(plane).await
        }
    }

    pub async fn of(plane: Plane) -> Self {
        let (old, new) = (plane.find(1).await, plane.find(2).await);
        let mut hosts = Vec::new();
        for number in 0..HOSTS {
            hosts.push(plane.host(&format!("host-{number}")).await);
        }
        let fleet = Self {
            plane,
            hosts,
            old,
            new,
            id: String::new(),
            position: 0,
            sequence: AtomicU64::new(0),
            database: None,
            others: Vec::new(),
        };
        for host in 0..HOSTS {
            let news = json!({"status": status(&[&fleet.old, &fleet.new])});
            assert!(fleet.beat(host, news).await.status().is_success());
        }
        let set = json!({"release": fleet.old.to_string()});
        fleet.plane.post_ok("/v1/kernels/set-default", &set).await;
        fleet
    }

    pub async fn another_replica(&mut self) -> Replica {
        let mut settings = given().check(self.plane.dir.path()).unwrap();
        settings.database = self.database.clone().unwrap();
        settings.clock = self.clock().clone();
        let shutdown = CancellationToken::new();
        let running = serve(settings, shutdown.clone()).await.unwrap();
        self.others.push(shutdown.drop_guard());
        Replica {
            control: running.control.clone(),
            _running: running,
        }
    }

    pub fn control(&self) -> &Control {
        &self.plane.running.control
    }

    fn clock(&self) -> &Clock {
        self.plane.running.control.clock()
    }

    pub async fn start(&mut self, plan: &Value) {
        let body = json!({"release": self.new.to_string(), "plan": plan, "reason": "a test"});
        let receipt = self.plane.post_ok("/v1/rollouts", &body).await;
        self.id = receipt["rollout"].as_str().unwrap().to_owned();
        self.position = receipt["event"].as_u64().unwrap();
    }

    /// Waits until the rollout says that this happened, after what it said before.
    pub async fn wait_for(&mut self, kind: &str) {
        let look = async {
            loop {
                let path = format!(
                    "/v1/events?after={}&wait_seconds=5&aggregate=rollout/{}",
                    self.position, self.id
                );
                let page = self.plane.get_json(&path).await;
                for event in page["items"].as_array().unwrap() {
                    self.position = event["position"].as_u64().unwrap();
                    if event["detail"]["event"] == kind {
                        return;
                    }
                }
            }
        };
        let came = tokio::time::timeout(PATIENCE, look).await;
        if came.is_err() {
            panic!("no {kind}: {}", self.show(&self.id.clone()).await);
        }
    }

    pub async fn rollout_events(&self) -> Vec<Value> {
        let page = self
            .plane
            .get_json(&format!("/v1/events?limit=200&aggregate=rollout/{}", self.id))
            .await;
        let items = page["items"].as_array().unwrap();
        items
            .iter()
            .map(|event| event["detail"]["event"].clone())
            .collect()
    }

    /// Minutes go by, and the hosts go on coming.
    pub async fn pass_minutes(&self, minutes: u32) {
        self.clock().advance(Duration::from_secs(60) * minutes);
        self.follow().await;
    }

    /// All hosts come, and say that they go by the newest target.
    pub async fn follow(&self) {
        for host in 0..self.hosts.len() {
            assert!(self.beat(host, json!({})).await.status().is_success());
        }
    }

    /// Some boots of each release on each host, in this minute.
    pub async fn boot(&self, new: &str, old: &str) {
        for host in 0..self.hosts.len() {
            for (release, outcome) in [(&self.new, new), (&self.old, old)] {
                let answer = self.report(host, release, outcome, 20, &json!([])).await;
                assert!(answer.status().is_success());
            }
        }
    }

    pub async fn report(
        &self,
        host: usize,
        release: &ReleaseId,
        outcome: &str,
        count: u32,
        buckets: &Value,
    ) -> Response {
        let now = self.clock().now().as_second();
        let window = Timestamp::from_second(now - now.rem_euclid(60)).unwrap();
        let outcomes = json!([{
            "release": release.to_string(), "window": window.to_string(), "outcome": outcome, "count": count,
            "ready_ms_buckets": buckets,
        }]);
        self.beat(host, json!({"outcomes": outcomes})).await
    }

    async fn beat(&self, host: usize, mut news: Value) -> Response {
        news["stream"] = json!("01JAAAAAAAAAAAAAAAAAAAAAAA");
        let has_news = news.get("outcomes").is_some() || news.get("status").is_some();
        let sequence = match has_news {
            true => self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            false => self.sequence.load(Ordering::Relaxed),
        };
        news["sequence"] = json!(sequence);
        news["agent_version"] = json!("1.0.0");
        news["generation"] = json!(self.plane.running.control.fleet().generation());
        self.hosts[host].post("heartbeat", &news).await
    }

    pub async fn target(&self) -> Value {
        self.target_of(0).await
    }

    pub async fn target_of(&self, host: usize) -> Value {
        self.hosts[host].target(0, 0).await.json().await.unwrap()
    }

    pub async fn show(&self, id: &str) -> Value {
        self.plane.get_json(&format!("/v1/rollouts/{id}")).await
    }

    pub async fn metrics(&self) -> String {
        let address = self.plane.running.metrics_address.unwrap();
        let answer = reqwest::get(format!("http://{address}/metrics")).await.unwrap();
        answer.text().await.unwrap()
    }
}
