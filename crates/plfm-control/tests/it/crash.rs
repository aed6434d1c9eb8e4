//! The program is killed while changes are made.
//!
//! `PLFM_KILLS` says how often; few by default.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plfm_api::control::{Event, EventPage};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::plane::{ca, client};
use crate::program::{Program, init, output};

const KILLS_DEFAULT: u32 = 5;
const WRITERS: u32 = 3;
/// How long a writer is let write before the program is killed, at most.
const LIFE_MS_MAX: u64 = 400;

/// Changes of one writer that were answered: what was asked, and the answer.
type Acknowledged = Arc<Mutex<BTreeMap<String, Value>>>;

/// Writes until told to stop. A change that is not answered is sent again, with the same key, to whoever is there by then.
async fn write(
    number: u32,
    client: Client,
    admin: String,
    address: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    acknowledged: Acknowledged,
) {
    for count in 0_u64.. {
        let key = format!("{number}-{count}");
        let (method, path, body) = if count % 2 == 0 {
            // No two alike: what is so already is no event.
            let policy =
                json!({"fetches_max": u64::from(number) * 1_000_000 + count, "lost_after_seconds": 300});
            (
                Method::PUT,
                "/v1/policy",
                json!({"policy": policy, "reason": key}),
            )
        } else {
            (
                Method::POST,
                "/v1/enrollment-tokens",
                json!({"host_name": format!("host-{key}")}),
            )
        };
        loop {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let url = format!("{}{path}", address.lock().unwrap());
            let request = client
                .request(method.clone(), url)
                .bearer_auth(&admin)
                .header("idempotency-key", &key);
            let Ok(answer) = request.json(&body).timeout(Duration::from_secs(2)).send().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let status = answer.status();
            let Ok(text) = answer.text().await else { continue };
            if status.is_server_error() {
                continue;
            }
            assert!(status.is_success(), "{status} {text}");
            acknowledged
                .lock()
                .unwrap()
                .insert(key.clone(), serde_json::from_str(&text).unwrap());
            break;
        }
    }
}

async fn whole_log(client: &Client, base: &str, admin: &str) -> Vec<Event> {
    let (mut events, mut after) = (Vec::new(), 0);
    loop {
        let request = client
            .get(format!("{base}/v1/events?limit=200&after={after}"))
            .bearer_auth(admin);
        let page: EventPage = request.send().await.unwrap().json().await.unwrap();
        after = page.next_after;
        events.extend(page.items);
        if !page.more {
            return events;
        }
    }
}

fn check(events: &[Event], acknowledged: &BTreeMap<String, Value>) {
    let mut generation = 0;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for (event, position) in events.iter().zip(1..) {
        assert_eq!(event.position, position, "the log has no gaps");
        let key = match event.kind.as_str() {
            "policy_set" => {
                let raised = event.detail["generation"].as_u64().unwrap();
                assert_eq!(raised, generation + 1, "generations rise one by one");
                generation = raised;
                event.detail["reason"].as_str().unwrap()
            }
            "enrollment_token_created" => event.detail["host_name"]
                .as_str()
                .unwrap()
                .trim_start_matches("host-"),
            _ => continue,
        };
        let twice = seen.insert(key.to_owned(), event.position);
        assert_eq!(twice, None, "{key} happened twice");
    }
    for (key, answer) in acknowledged {
        let position = *seen
            .get(key)
            .unwrap_or_else(|| panic!("{key} was acknowledged and is lost"));
        if let Some(event) = answer["event"].as_u64() {
            assert_eq!(event, position, "{key}: the answer names another event");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_change_is_lost_and_none_happens_twice_when_it_is_killed() {
    let kills = std::env::var("PLFM_KILLS").map_or(KILLS_DEFAULT, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let admin = init(dir.path());
    let client = client(ca(dir.path()), None);
    let mut program = Program::start(dir.path());
    let address = Arc::new(Mutex::new(program.url("")));
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Acknowledged::default();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (client, admin, address) = (client.clone(), admin.clone(), Arc::clone(&address));
            tokio::spawn(write(
                number,
                client,
                admin,
                address,
                Arc::clone(&stop),
                Arc::clone(&acknowledged),
            ))
        })
        .collect();
    for _ in 0..kills {
        let life = Duration::from_millis(getrandom::u64().unwrap() % LIFE_MS_MAX);
        tokio::time::sleep(life).await;
        let at = dir.path().to_owned();
        program = tokio::task::spawn_blocking(move || {
            program.kill();
            Program::start(&at)
        })
        .await
        .unwrap();
        *address.lock().unwrap() = program.url("");
    }
    tokio::time::sleep(Duration::from_millis(LIFE_MS_MAX)).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let events = whole_log(&client, &program.url(""), &admin).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    check(&events, &acknowledged);
    assert!(!acknowledged.is_empty());
    eprintln!(
        "{kills} kills, {} changes acknowledged, {} events",
        acknowledged.len(),
        events.len()
    );
    // The view that a new replica would make is the one that is served.
    let policy = client
        .get(program.url("/v1/policy"))
        .bearer_auth(&admin)
        .send()
        .await
        .unwrap();
    let policy: Value = policy.json().await.unwrap();
    program.kill();
    let made = output(&["rebuild", "--data-dir", dir.path().to_str().unwrap()]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(
        (&made["policy"], &made["generation"]),
        (&policy["policy"], &policy["generation"])
    );
}
