//! The program is killed while changes are made.
//!
//! `PLFM_KILLS` says how often; few by default.

use std::collections::BTreeMap;
use std::time::Duration;

use plfm_api::control::{Event, EventPage};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::plane::{ca, client};
use crate::program::{Program, init, output};

const KILLS_DEFAULT: u32 = 5;
const WRITERS: u32 = 3;
/// How many changes are answered before the program is killed, at most. The writers do not wait: a kill meets what is under
/// way.
const CHANGES_MAX: usize = 40;
/// How long an answer may take: nothing but a kill keeps one from coming.
const PATIENCE: Duration = Duration::from_secs(30);

/// Changes of all writers that were answered: what was asked, and the answer.
type Acknowledged = BTreeMap<String, Value>;

/// Writes until there is no address any more. A change that is not answered is sent again, with the same key, to whoever is
/// there by then.
async fn write(
    number: u32,
    client: Client,
    admin: String,
    mut address: watch::Receiver<Option<String>>,
    acknowledged: watch::Sender<Acknowledged>,
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
            let Some(base) = address.borrow_and_update().clone() else {
                return;
            };
            let url = format!("{base}{path}");
            let request = client
                .request(method.clone(), url)
                .bearer_auth(&admin)
                .header("idempotency-key", &key);
            let answered = async {
                let answer = request.json(&body).timeout(PATIENCE).send().await?;
                Ok::<_, reqwest::Error>((answer.status(), answer.text().await?))
            };
            let Ok((status, text)) = answered.await else {
                // It was killed. The next one says where it is.
                address.changed().await.unwrap();
                continue;
            };
            if status.is_server_error() {
                continue;
            }
            assert!(status.is_success(), "{status} {text}");
            let answer = serde_json::from_str(&text).unwrap();
            acknowledged.send_modify(|acknowledged| {
                acknowledged.insert(key.clone(), answer);
            });
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

/// Waits until some more changes are answered, now few, now many.
async fn some_more(acknowledged: &mut watch::Receiver<Acknowledged>) {
    let random = usize::try_from(getrandom::u32().unwrap()).unwrap();
    let enough = acknowledged.borrow().len() + 1 + random % CHANGES_MAX;
    acknowledged
        .wait_for(|acknowledged| acknowledged.len() >= enough)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_change_is_lost_and_none_happens_twice_when_it_is_killed() {
    let kills = std::env::var("PLFM_KILLS").map_or(KILLS_DEFAULT, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let admin = init(dir.path());
    let client = client(ca(dir.path()), None);
    let mut program = Program::start(dir.path());
    let (address, addresses) = watch::channel(Some(program.url("")));
    let (acknowledging, mut acknowledged) = watch::channel(Acknowledged::new());
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (client, admin) = (client.clone(), admin.clone());
            tokio::spawn(write(
                number,
                client,
                admin,
                addresses.clone(),
                acknowledging.clone(),
            ))
        })
        .collect();
    for _ in 0..kills {
        some_more(&mut acknowledged).await;
        let at = dir.path().to_owned();
        program = tokio::task::spawn_blocking(move || {
            program.kill();
            Program::start(&at)
        })
        .await
        .unwrap();
        address.send_replace(Some(program.url("")));
    }
    some_more(&mut acknowledged).await;
    address.send_replace(None);
    for writer in writers {
        writer.await.unwrap();
    }
    let events = whole_log(&client, &program.url(""), &admin).await;
    let acknowledged = acknowledged.borrow().clone();
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
