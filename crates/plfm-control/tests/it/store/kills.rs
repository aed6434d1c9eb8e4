//! PostgreSQL is killed again and again while two replicas append and take heartbeats.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use plfm_control::store::{AppendError, Beat, Store};

use super::fixture::{answer, at, booted, event, ready, ready_by_host};
use crate::support::postgres::Postgres;

/// How often it is killed: `PLFM_KILLS`, or a few times.
fn kills() -> u64 {
    std::env::var("PLFM_KILLS").map_or(3, |kills| kills.parse().unwrap())
}

/// Progress between two kills, so that each one meets work under way.
const STEPS_BETWEEN_KILLS: u64 = 25;

#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    steps: AtomicU64,
    /// Appends and batches that failed because there was no database.
    failures: AtomicU64,
}

impl Progress {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Appends one change after the other, each until it is acknowledged. The kinds of those that were.
async fn append(store: Store, appender: u8, progress: Arc<Progress>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0_u16.. {
        if !progress.goes_on() {
            break;
        }
        let kind = format!("{appender}-{number}");
        let mut answer = answer(appender, &kind);
        answer.principal = number.to_string();
        loop {
            let appended = match store.head().await {
                Ok(head) => store.append(head, &[event("fleet", &kind)], Some(&answer)).await,
                Err(error) => Err(error.into()),
            };
            match appended {
                // Answered: it was carried out, and the acknowledgement was lost.
                Ok(_) | Err(AppendError::Answered) => break,
                Err(AppendError::Moved { .. }) => (),
                Err(AppendError::Store(error)) => {
                    assert!(error.is_retryable(), "{error:?}");
                    progress.failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        acknowledged.push(kind);
        progress.steps.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

/// Sends heartbeats of ten hosts, each until it is acknowledged. How many boots were reported.
async fn beat(store: Store, first_host: u32, progress: Arc<Progress>) -> u64 {
    let mut reported = 0;
    for sequence in 1.. {
        if !progress.goes_on() {
            break;
        }
        let batch: Vec<Beat> = (first_host..first_host + 10)
            .map(|host| booted(host, sequence, 1))
            .collect();
        while let Err(error) = store.take_beats(&batch, 0, at(0)).await {
            assert!(error.is_retryable(), "{error:?}");
            progress.failures.fetch_add(1, Ordering::Relaxed);
        }
        reported += 10;
        progress.steps.fetch_add(1, Ordering::Relaxed);
    }
    reported
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[cfg_attr(not(postgres_installed), ignore = "needs PostgreSQL 15")]
async fn nothing_acknowledged_is_lost_and_nothing_is_applied_twice_when_the_database_is_killed() {
    let server = Postgres::start();
    let url = server.database().await;
    let replicas = [Store::open(&url).await.unwrap(), Store::open(&url).await.unwrap()];
    let progress = Arc::new(Progress::default());
    let appenders: Vec<_> = (0..4_u8)
        .map(|number| {
            tokio::spawn(append(
                replicas[usize::from(number % 2)].clone(),
                number,
                progress.clone(),
            ))
        })
        .collect();
    let senders: Vec<_> = (0..2_u32)
        .map(|number| {
            tokio::spawn(beat(
                replicas[number as usize].clone(),
                number * 100,
                progress.clone(),
            ))
        })
        .collect();
    for _ in 0..kills() {
        let before = progress.steps.load(Ordering::Relaxed);
        while progress.steps.load(Ordering::Relaxed) < before + STEPS_BETWEEN_KILLS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let begin = std::time::Instant::now();
        tokio::task::block_in_place(|| {
            server.kill();
            server.start_again();
        });
        println!(
            "after {} steps; back after {:.1?}",
            progress.steps.load(Ordering::Relaxed),
            begin.elapsed()
        );
    }
    progress.stop.store(true, Ordering::Relaxed);

    let mut acknowledged = Vec::new();
    for appender in appenders {
        acknowledged.extend(appender.await.unwrap());
    }
    let mut reported = 0;
    for sender in senders {
        reported += sender.await.unwrap();
    }
    let failures = progress.failures.load(Ordering::Relaxed);
    println!(
        "{} changes, {reported} boots, {failures} failures",
        acknowledged.len()
    );
    assert!(failures >= kills(), "the kills met work under way");

    let events = replicas[0].events(0, 1_000_000, None).await.unwrap();
    for (position, event) in (1..).zip(&events) {
        assert_eq!((event.position, event.sequence), (position, position));
    }
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let once: BTreeSet<&str> = kinds.iter().copied().collect();
    assert_eq!(once.len(), kinds.len(), "none is applied twice");
    assert_eq!(
        once,
        acknowledged.iter().map(String::as_str).collect(),
        "none is lost"
    );
    assert_eq!(ready(&replicas[1]).await.0, reported);
    assert_eq!(ready_by_host(&replicas[0]).await, reported);
}
