//! Two control planes over one PostgreSQL: what one does the other knows, and either of them may die.

use std::path::Path;

use futures_util::future::{join, join_all};
use plfm_api::control::{EnrolledHost, Event, EventPage, Heartbeat, Kernel, Page, Target};
use plfm_control::settings::Settings;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::plane::{self, Host, Plane, beat, ca, client, csr, identity, status};
use crate::program::{Program, init_with};
use crate::support::postgres::Postgres;

/// How often two changes meet, and how often a replica dies.
const ROUNDS: u64 = 10;

/// What a replica needs of the first one: the configuration and the keys.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in ["ca.crt", "ca.key", "secret.key", "control.toml"] {
        std::fs::copy(from.join(name), to.path().join(name)).unwrap();
    }
    to
}

/// Two replicas in this process.
async fn two() -> [Plane; 2] {
    let database = Postgres::shared().database().await;
    let first = tempfile::tempdir().unwrap();
    let admin = init_with(first.path(), &["--database", &database]);
    let second = copy(first.path());
    let over = |settings: Settings| Settings {
        database: database.clone(),
        ..settings
    };
    [
        plane::run(first, admin.clone(), over).await,
        plane::run(second, admin, over).await,
    ]
}

/// Two replicas as processes, with the first admin's token.
struct Processes {
    dirs: [TempDir; 2],
    programs: [Program; 2],
    admin: String,
    client: Client,
}

impl Processes {
    async fn start() -> Self {
        let database = Postgres::shared().database().await;
        let first = tempfile::tempdir().unwrap();
        let admin = init_with(first.path(), &["--database", &database]);
        let dirs = [copy(first.path()), first];
        Self {
            programs: [Program::start(dirs[0].path()), Program::start(dirs[1].path())],
            client: client(ca(dirs[0].path()), None),
            dirs,
            admin,
        }
    }

    async fn post(&self, at: usize, key: &str, path: &str, body: &Value) -> reqwest::Result<Response> {
        self.programs[at]
            .post(&self.client, &self.admin, key, path, body)
            .await
    }

    async fn get(&self, at: usize, path: &str) -> Value {
        let request = self
            .client
            .get(self.programs[at].url(path))
            .bearer_auth(&self.admin);
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn events(&self, at: usize) -> Vec<Event> {
        let page = self.get(at, "/v1/events?limit=200").await;
        serde_json::from_value::<EventPage>(page).unwrap().items
    }

    /// Ends one as a power cut would, and starts it again.
    fn kill(&mut self, at: usize) {
        self.programs[at].process.kill().unwrap();
        self.programs[at].process.wait().unwrap();
        self.programs[at] = Program::start(self.dirs[at].path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_through_one_is_seen_through_the_other_and_wakes_those_who_wait_there() {
    let [one, other] = two().await;
    let release = one.find(1).await;
    let host = one.host("host-a").await;
    let there = Host::at(&other.url(""), host.enrolled.clone(), host.client.clone());
    other.running.control.catch_up().await.unwrap();
    let waiting = tokio::spawn(async move { there.target(0, 55).await });
    while other.running.control.metrics().long_polls().get() == 0 {
        tokio::task::yield_now().await;
    }
    let set = std::time::Instant::now();
    let receipt = one
        .post_ok(
            "/v1/kernels/set-default",
            &json!({"release": release.to_string()}),
        )
        .await;
    let target: Target = waiting.await.unwrap().json().await.unwrap();
    assert_eq!((target.default, target.generation.0), (Some(release), 1));
    // The other one looks at the log four times a second.
    assert!(
        set.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        set.elapsed()
    );
    assert_eq!(
        other.get_json("/v1/fleet").await["target"]["generation"],
        receipt["generation"]
    );
    let events = other.events(0).await.items;
    assert_eq!(
        events.last().unwrap().actor.request_id.as_deref(),
        receipt["request_id"].as_str()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_to_both_at_once_happens_once_with_one_answer() {
    let replicas = two().await;
    let before = replicas[0].head().await;
    for round in 0..ROUNDS {
        let body = json!({"name": format!("token-{round}"), "role": "viewer"});
        let key = format!("key-{round}");
        let ask = |plane: &Plane| {
            plane
                .request(Method::POST, "/v1/tokens")
                .header("idempotency-key", &key)
                .json(&body)
                .send()
        };
        let (one, other) = join(ask(&replicas[0]), ask(&replicas[1])).await;
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!((one.status(), other.status()), (StatusCode::OK, StatusCode::OK));
        let (one, other) = (one.text().await.unwrap(), other.text().await.unwrap());
        assert_eq!(one, other, "with the same secret");
        assert_eq!(replicas[1].head().await, before + round + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_at_once_that_expect_the_same_generation_one_wins_and_if_a_replica_dies_the_other_goes_on()
 {
    let mut replicas = Processes::start().await;
    for round in 0..ROUNDS {
        let tries = [0, 1].map(|at| {
            let policy = json!({"fetches_max": 1000 + 2 * round + at, "lost_after_seconds": 300});
            let body = json!({"policy": policy, "expected_generation": round});
            let at = usize::try_from(at).unwrap();
            let request = replicas.client.put(replicas.programs[at].url("/v1/policy"));
            let request = request.bearer_auth(&replicas.admin);
            request
                .header("idempotency-key", format!("{round}-{at}"))
                .json(&body)
                .send()
        });
        let mut statuses: Vec<u16> = join_all(tries)
            .await
            .into_iter()
            .map(|answer| answer.unwrap().status().as_u16())
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "round {round}");
        let at = usize::try_from(round % 2).unwrap();
        let policy = replicas.get(at, "/v1/policy").await;
        assert!(
            policy["generation"] == round + 1 || policy["generation"] == round,
            "{policy}"
        );
    }
    let mut answers = Vec::new();
    for round in 0..ROUNDS {
        let (dies, lives) = (
            usize::try_from(round % 2).unwrap(),
            usize::try_from((round + 1) % 2).unwrap(),
        );
        let (key, body) = (
            format!("kill-{round}"),
            json!({"host_name": format!("host-{round}")}),
        );
        let url = replicas.programs[dies].url("/v1/enrollment-tokens");
        let request = replicas.client.post(url).bearer_auth(&replicas.admin);
        let asked = tokio::spawn(request.header("idempotency-key", &key).json(&body).send());
        // In the middle of it, or before, or after: all three must come to the same.
        for _ in 0..round * 40 {
            tokio::task::yield_now().await;
        }
        replicas.kill(dies);
        let first = match asked.await.unwrap() {
            Ok(answer) => answer.text().await.ok(),
            Err(_) => None,
        };
        let again = replicas
            .post(lives, &key, "/v1/enrollment-tokens", &body)
            .await
            .unwrap();
        assert_eq!(again.status(), StatusCode::OK);
        let again = again.text().await.unwrap();
        assert!(
            first.is_none_or(|first| first == again),
            "who lives gives the same answer"
        );
        answers.push(again);
    }
    for at in [0, 1] {
        let events = replicas.events(at).await;
        let made = events
            .iter()
            .filter(|event| event.kind == "enrollment_token_created");
        assert_eq!(made.count(), answers.len(), "each once");
        let set = events.iter().filter(|event| event.kind == "policy_set");
        let generations: Vec<u64> = set
            .map(|event| event.detail["generation"].as_u64().unwrap())
            .collect();
        assert_eq!(generations, (1..=ROUNDS).collect::<Vec<_>>());
        let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
        assert_eq!(positions, (1..).take(events.len()).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_is_sent_again_to_the_other_one_is_counted_once() {
    let replicas = two().await;
    let release = replicas[0].find(1).await;
    let token = replicas[0].enrollment_token().await.token;
    let key = rcgen::KeyPair::generate().unwrap();
    let enrolled: EnrolledHost = replicas[1]
        .enroll(&token, "host-a", &csr(&key))
        .await
        .json()
        .await
        .unwrap();
    let ways = [0, 1].map(|at: usize| {
        let client = client(replicas[at].ca(), Some(identity(&enrolled.certificate, &key)));
        Host::with_client(&replicas[at], enrolled.clone(), client)
    });
    for plane in &replicas {
        plane.running.control.catch_up().await.unwrap();
    }
    let minute = jiff::Timestamp::now().as_second() / 60 * 60;
    let minute = jiff::Timestamp::from_second(minute).unwrap();
    for sequence in 1..=ROUNDS {
        let mut sent = serde_json::to_value(beat(sequence)).unwrap();
        sent["outcomes"] =
            json!([{"release": release.to_string(), "window": minute, "outcome": "ready", "count": 3}]);
        if sequence == 1 {
            sent["status"] = status(&[&release]);
        }
        let sent: Heartbeat = serde_json::from_value(sent).unwrap();
        // An answer that was lost: it is sent again, to the other one. And a network that delivers twice: to both at once.
        if sequence % 2 == 0 {
            assert_eq!(ways[0].beat(&sent).await.status(), StatusCode::OK);
        }
        let (one, other) = join(ways[0].beat(&sent), ways[1].beat(&sent)).await;
        for answer in [one, other] {
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.json::<Value>().await.unwrap()["sequence"], sequence);
        }
    }
    let boots = async |plane: &Plane| {
        let kernels: Page<Kernel> = serde_json::from_value(plane.get_json("/v1/kernels").await).unwrap();
        (kernels.items[0].boots, kernels.items[0].instances)
    };
    for plane in &replicas {
        assert_eq!(boots(plane).await, (3 * ROUNDS, 3));
    }
}
