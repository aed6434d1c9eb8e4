//! Leases: how many hosts fetch at once.

use std::collections::BTreeSet;

use jiff::Timestamp;
use plfm_api::ReleaseState::{Installed, Refused};
use plfm_api::control::HostId;
use plfm_control::store::{Beat, LEASE_HELD_MAX, LEASE_RENEWED_FOR, Store};

use super::fixture::{Database, at, host, plain, release, stream, with_status};
use super::on_both;

on_both!(
    leases_never_exceed_the_bound_on_two_replicas,
    a_lease_is_renewed_by_asking_and_ends_when_nothing_is_wanted,
    a_lease_ends_when_the_release_is_installed,
    a_lease_ends_by_itself,
    a_host_that_never_finishes_lets_others_go_first,
    without_a_bound_everybody_may_fetch,
    an_old_word_of_a_host_neither_gets_nor_ends_a_lease,
);

fn asking(number: u32) -> Beat {
    Beat {
        wants: vec![release('a')],
        ..plain(number, 0)
    }
}

/// Takes the heartbeats. Who may fetch.
async fn take(store: &Store, beats: &[Beat], max: u32, now: Timestamp) -> Vec<HostId> {
    let taken = store.take_beats(beats, max, now).await.unwrap();
    taken
        .into_iter()
        .filter(|taken| !taken.may_fetch.is_empty())
        .map(|taken| taken.host)
        .collect()
}

async fn leases_never_exceed_the_bound_on_two_replicas(database: Database) {
    let replicas = [database.open().await, database.open().await];
    let mut done = BTreeSet::new();
    // Each round all hosts that are not done ask at once, a share of them in each batch, so that no host's row makes the
    // batches wait for each other; who may fetch is done afterwards.
    for _ in 0..40 {
        let waiting: Vec<u32> = (0..40).filter(|number| !done.contains(&host(*number))).collect();
        if waiting.is_empty() {
            break;
        }
        let tries: Vec<_> = (0..4_u32)
            .map(|share| {
                let store = replicas[share as usize % 2].clone();
                let share = waiting.iter().filter(|number| **number % 4 == share);
                let beats: Vec<Beat> = share.map(|number| asking(*number)).collect();
                tokio::spawn(async move { take(&store, &beats, 7, at(0)).await })
            })
            .collect();
        let mut granted = BTreeSet::new();
        for one in tries {
            granted.extend(one.await.unwrap());
        }
        assert!(granted.len() <= 7, "{granted:?}");
        assert_eq!(granted.len(), 7.min(waiting.len()), "none is kept back");
        let content: Vec<Beat> = waiting
            .iter()
            .filter(|number| granted.contains(&host(**number)))
            .map(|number| plain(*number, 0))
            .collect();
        take(&replicas[0], &content, 7, at(0)).await;
        done.extend(granted);
    }
    assert_eq!(done.len(), 40);
}

async fn a_lease_is_renewed_by_asking_and_ends_when_nothing_is_wanted(database: Database) {
    let store = database.open().await;
    assert_eq!(take(&store, &[asking(1), asking(2)], 1, at(0)).await, [host(1)]);
    for minute in 1..40 {
        let now = at(minute * 60);
        assert_eq!(take(&store, &[asking(2), asking(1)], 1, now).await, [host(1)]);
    }
    assert_eq!(
        take(&store, &[plain(1, 0), asking(2)], 1, at(2400)).await,
        [host(2)]
    );
    assert_eq!(take(&store, &[asking(1)], 1, at(2400)).await, []);
    assert_eq!(take(&store, &[asking(1)], 2, at(2400)).await, [host(1)]);
}

async fn a_lease_ends_when_the_release_is_installed(database: Database) {
    let store = database.open().await;
    assert_eq!(take(&store, &[asking(1)], 1, at(0)).await, [host(1)]);
    let refused = with_status(1, 1, &[(release('a'), Refused, 0)]);
    let refused = Beat {
        wants: vec![release('a')],
        ..refused
    };
    assert_eq!(take(&store, &[refused, asking(2)], 1, at(1)).await, [host(1)]);
    let installed = with_status(1, 2, &[(release('a'), Installed, 0)]);
    let installed = Beat {
        wants: vec![release('a')],
        ..installed
    };
    assert_eq!(take(&store, &[installed, asking(2)], 1, at(2)).await, [host(2)]);
}

async fn a_lease_ends_by_itself(database: Database) {
    let store = database.open().await;
    let minutes = LEASE_RENEWED_FOR.as_secs() as i64;
    assert_eq!(take(&store, &[asking(1)], 1, at(0)).await, [host(1)]);
    assert_eq!(take(&store, &[asking(2)], 1, at(minutes - 1)).await, []);
    assert_eq!(take(&store, &[asking(2)], 1, at(minutes)).await, [host(2)]);
    assert_eq!(take(&store, &[asking(1)], 1, at(minutes)).await, []);
}

async fn a_host_that_never_finishes_lets_others_go_first(database: Database) {
    let store = database.open().await;
    let held = LEASE_HELD_MAX.as_secs() as i64;
    for now in (0..held).step_by(300) {
        assert_eq!(take(&store, &[asking(1)], 1, at(now)).await, [host(1)]);
    }
    assert_eq!(
        take(&store, &[asking(1), asking(2)], 1, at(held)).await,
        [host(2)]
    );
    assert_eq!(take(&store, &[asking(1)], 1, at(held)).await, []);
}

async fn without_a_bound_everybody_may_fetch(database: Database) {
    let store = database.open().await;
    let beats: Vec<Beat> = (0..300).map(asking).collect();
    assert_eq!(take(&store, &beats, 0, at(0)).await.len(), 300);
    // They count when a bound is set.
    assert_eq!(take(&store, &[asking(400)], 300, at(1)).await, []);
    assert_eq!(take(&store, &[asking(400)], 301, at(1)).await, [host(400)]);
}

async fn an_old_word_of_a_host_neither_gets_nor_ends_a_lease(database: Database) {
    let store = database.open().await;
    take(&store, &[with_status(1, 5, &[])], 1, at(0)).await;
    let old = Beat {
        wants: vec![release('a')],
        ..plain(1, 4)
    };
    assert_eq!(take(&store, &[old], 1, at(0)).await, []);
    let new = Beat {
        wants: vec![release('a')],
        ..plain(1, 5)
    };
    assert_eq!(
        take(&store, std::slice::from_ref(&new), 1, at(0)).await,
        [host(1)]
    );
    take(&store, &[plain(1, 4)], 1, at(0)).await;
    assert_eq!(take(&store, &[asking(2)], 1, at(0)).await, []);
    // A stream that came later is the host's word by now.
    take(
        &store,
        &[Beat {
            stream: stream(9),
            ..with_status(1, 1, &[])
        }],
        1,
        at(0),
    )
    .await;
    assert_eq!(take(&store, &[new], 1, at(0)).await, []);
    assert_eq!(take(&store, &[asking(2)], 1, at(0)).await, [host(2)]);
}
