//! Heartbeats: counted once, whatever the way they come.

use plfm_api::ReleaseState::{Current, Installed, Refused};
use plfm_api::control::Generation;
use plfm_control::store::{Beat, STREAMS_MAX, Store, StoreError, Taken};

use super::fixture::{Database, at, booted, host, plain, ready, ready_by_host, release, stream, with_status};
use super::on_both;

on_both!(
    news_that_are_sent_again_count_once,
    news_that_come_to_two_replicas_at_once_count_once,
    older_news_that_come_late_change_nothing,
    last_seen_never_goes_back,
    news_after_a_gap_are_taken_and_the_status_is_asked_for,
    a_host_that_is_further_than_the_database_is_asked_for_its_status,
    news_of_a_stream_that_was_forgotten_are_refused,
    a_status_replaces_the_one_before_and_only_a_status_does,
    a_status_of_an_older_stream_is_not_taken,
    a_stream_with_a_smaller_id_than_the_last_one_is_taken_if_it_is_new,
    a_host_is_once_in_a_batch,
    nonsense_from_one_host_does_not_fail_the_batch,
    batches_in_any_order_do_not_wait_in_a_circle,
);

async fn take(store: &Store, beat: Beat) -> Taken {
    let mut taken = store.take_beats(&[beat], 0, at(0)).await.unwrap();
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

async fn news_that_are_sent_again_count_once(database: Database) {
    let store = database.open().await;
    for round in 0..3 {
        let taken = take(&store, booted(1, 1, 5)).await;
        assert_eq!((taken.applied, taken.sequence), (round == 0, 1));
    }
    let batch = [booted(2, 1, 1), booted(1, 2, 7), plain(3, 0)];
    for round in 0..2 {
        let taken = store.take_beats(&batch, 0, at(0)).await.unwrap();
        let hosts: Vec<_> = taken.iter().map(|taken| taken.host.clone()).collect();
        assert_eq!(
            hosts,
            [host(2), host(1), host(3)],
            "in the order of the heartbeats"
        );
        let applied: Vec<_> = taken
            .iter()
            .map(|taken| (taken.applied, taken.sequence))
            .collect();
        assert_eq!(applied, [(round == 0, 1), (round == 0, 2), (false, 0)]);
    }
    assert_eq!(ready(&store).await, (13, 1300));
    assert_eq!(ready_by_host(&store).await, 13);
}

async fn news_that_come_to_two_replicas_at_once_count_once(database: Database) {
    let replicas = [database.open().await, database.open().await];
    for sequence in 1..=15 {
        let tries: Vec<_> = (0..4)
            .map(|number: usize| {
                let store = replicas[number % 2].clone();
                let batch: Vec<Beat> = (0..20).map(|host| booted(host, sequence, 1)).collect();
                tokio::spawn(async move { store.take_beats(&batch, 0, at(0)).await.unwrap() })
            })
            .collect();
        let mut applied = 0;
        for one in tries {
            let taken = one.await.unwrap();
            assert!(taken.iter().all(|taken| taken.sequence == sequence));
            applied += taken.iter().filter(|taken| taken.applied).count();
        }
        assert_eq!(applied, 20);
    }
    assert_eq!(ready(&replicas[0]).await, (300, 30_000));
    assert_eq!(ready_by_host(&replicas[1]).await, 300);
}

async fn older_news_that_come_late_change_nothing(database: Database) {
    let store = database.open().await;
    let mut newer = with_status(1, 3, &[(release('b'), Current, 2)]);
    newer.outcomes = booted(1, 3, 1).outcomes;
    newer.generation = Generation(9);
    take(&store, newer).await;
    let mut older = with_status(1, 2, &[(release('a'), Current, 1)]);
    older.outcomes = booted(1, 2, 4).outcomes;
    older.agent_version = semver::Version::new(0, 1, 0);
    older.seen_at = at(60);
    let taken = take(&store, older).await;
    assert_eq!((taken.applied, taken.sequence), (false, 3));
    let row = store.host_row(&host(1)).await.unwrap().unwrap();
    assert_eq!(row.seen_at, at(60));
    assert_eq!(row.generation, Generation(9));
    assert_eq!(row.agent_version, semver::Version::new(1, 2, 3));
    assert_eq!(row.status.unwrap().releases[0].release, release('b'));
    assert_eq!(ready(&store).await.0, 1);
}

async fn last_seen_never_goes_back(database: Database) {
    let store = database.open().await;
    for (seconds, last) in [(50, 50), (20, 50), (70, 70), (69, 70)] {
        let beat = Beat {
            seen_at: at(seconds),
            ..plain(1, 0)
        };
        take(&store, beat).await;
        assert_eq!(store.seen(None).await.unwrap(), [(host(1), at(last))]);
    }
    assert_eq!(store.seen(Some(at(71))).await.unwrap(), []);
}

async fn news_after_a_gap_are_taken_and_the_status_is_asked_for(database: Database) {
    let store = database.open().await;
    assert!(take(&store, with_status(1, 1, &[])).await.has_status);
    let taken = take(&store, booted(1, 5, 3)).await;
    assert_eq!(
        (taken.applied, taken.sequence, taken.has_status),
        (true, 5, false)
    );
    // And again, until it comes: the answer may have been lost.
    assert!(!take(&store, booted(1, 5, 3)).await.has_status);
    assert!(!take(&store, booted(1, 6, 3)).await.has_status);
    assert!(take(&store, with_status(1, 7, &[])).await.has_status);
    assert!(take(&store, plain(1, 7)).await.has_status);
    assert_eq!(ready(&store).await.0, 6);
}

async fn a_host_that_is_further_than_the_database_is_asked_for_its_status(database: Database) {
    let store = database.open().await;
    assert!(!take(&store, plain(1, 0)).await.has_status);
    take(&store, with_status(1, 1, &[])).await;
    let taken = take(&store, plain(1, 9)).await;
    assert_eq!(
        (taken.applied, taken.sequence, taken.has_status),
        (false, 1, false)
    );
    // A host that lost its state begins another stream, and what is known of it may not hold any more.
    let anew = Beat {
        stream: stream(2),
        ..with_status(1, 1, &[])
    };
    assert!(take(&store, anew).await.has_status);
    let anew = Beat {
        stream: stream(3),
        ..plain(1, 0)
    };
    assert!(!take(&store, anew).await.has_status);
}

async fn news_of_a_stream_that_was_forgotten_are_refused(database: Database) {
    let store = database.open().await;
    let of = |number: u64, sequence| Beat {
        stream: stream(number),
        seen_at: at(number as i64),
        ..booted(1, sequence, 1)
    };
    let kept = STREAMS_MAX as u64;
    for number in 1..=kept {
        assert!(take(&store, of(number, 1)).await.applied);
    }
    // All are remembered: the first goes on, and is now the one that was used last.
    assert!(!take(&store, of(1, 1)).await.applied);
    let first = Beat {
        seen_at: at(100),
        ..of(1, 2)
    };
    assert!(take(&store, first).await.applied);
    // One more: the second makes room.
    let more = Beat {
        seen_at: at(101),
        ..of(kept + 1, 1)
    };
    assert!(take(&store, more).await.applied);
    for sequence in [1, 2, 50] {
        let taken = take(&store, of(2, sequence)).await;
        assert_eq!((taken.refused, taken.applied, taken.sequence), (true, false, 0));
    }
    assert!(!take(&store, of(3, 1)).await.refused);
    assert!(
        take(
            &store,
            Beat {
                seen_at: at(102),
                ..of(1, 3)
            }
        )
        .await
        .applied
    );
    assert_eq!(ready(&store).await.0, kept + 3);
    assert_eq!(ready_by_host(&store).await, kept + 3);
}

async fn a_status_replaces_the_one_before_and_only_a_status_does(database: Database) {
    let store = database.open().await;
    let releases = [
        (release('a'), Current, 3),
        (release('b'), Installed, 0),
        (release('c'), Refused, 1),
    ];
    let first = with_status(1, 1, &releases);
    take(&store, first.clone()).await;
    take(&store, booted(1, 2, 1)).await;
    take(&store, plain(1, 2)).await;
    assert_eq!(
        store.host_row(&host(1)).await.unwrap().unwrap().status,
        first.status
    );
    assert_eq!(store.release_counts(at(0)).await.unwrap().len(), 3);
    let second = with_status(1, 3, &[(release('b'), Current, 4)]);
    take(&store, second.clone()).await;
    assert_eq!(
        store.host_row(&host(1)).await.unwrap().unwrap().status,
        second.status
    );
    let counts = store.release_counts(at(0)).await.unwrap();
    assert_eq!(counts.len(), 1);
    assert_eq!(
        (
            counts[0].hosts_installed,
            counts[0].hosts_current,
            counts[0].instances
        ),
        (1, 1, 4)
    );
    take(&store, with_status(1, 4, &[])).await;
    assert_eq!(store.release_counts(at(0)).await.unwrap(), []);
}

async fn a_status_of_an_older_stream_is_not_taken(database: Database) {
    let store = database.open().await;
    take(&store, with_status(1, 1, &[(release('a'), Current, 1)])).await;
    let newer = Beat {
        stream: stream(2),
        ..with_status(1, 1, &[(release('b'), Current, 1)])
    };
    take(&store, newer.clone()).await;
    let mut late = with_status(1, 2, &[(release('a'), Current, 1)]);
    late.outcomes = booted(1, 2, 1).outcomes;
    let taken = take(&store, late).await;
    assert!(taken.applied, "its boots count");
    assert_eq!(
        store.host_row(&host(1)).await.unwrap().unwrap().status,
        newer.status
    );
    assert_eq!(ready(&store).await.0, 1);
}

async fn a_stream_with_a_smaller_id_than_the_last_one_is_taken_if_it_is_new(database: Database) {
    let store = database.open().await;
    take(
        &store,
        Beat {
            stream: stream(500),
            ..with_status(1, 1, &[(release('a'), Current, 1)])
        },
    )
    .await;
    // The host's clock was put back, and it lost its state.
    for sequence in 1..=3 {
        let anew = Beat {
            stream: stream(2),
            ..with_status(1, sequence, &[(release('b'), Current, sequence as u32)])
        };
        assert!(take(&store, anew.clone()).await.has_status);
        assert_eq!(
            store.host_row(&host(1)).await.unwrap().unwrap().status,
            anew.status
        );
    }
}

async fn a_host_is_once_in_a_batch(database: Database) {
    let store = database.open().await;
    let twice = store
        .take_beats(&[booted(1, 1, 1), plain(2, 0), booted(1, 2, 1)], 0, at(0))
        .await;
    assert!(matches!(twice, Err(StoreError::HostTwice { .. })));
    assert_eq!(store.seen(None).await.unwrap(), []);
    assert_eq!(store.take_beats(&[], 0, at(0)).await.unwrap(), []);
}

async fn nonsense_from_one_host_does_not_fail_the_batch(database: Database) {
    let store = database.open().await;
    for sequence in [1, u64::MAX - 1, u64::MAX] {
        let mut odd = with_status(
            1,
            sequence,
            &[(release('a'), Current, u32::MAX), (release('a'), Refused, 1)],
        );
        odd.generation = Generation(u64::MAX);
        let status = odd.status.as_mut().unwrap();
        status.vmm = "\u{0}'\"\\".to_owned();
        status.problems = vec!["\u{0}\\u0000".to_owned()];
        let mut boots = booted(1, sequence, u32::MAX).outcomes.remove(0);
        boots.ready_ms_total = u64::MAX;
        boots.ready_ms_max = u64::MAX;
        odd.outcomes = vec![boots.clone(), boots];
        let expected = odd.status.clone();
        let sound = booted(2, sequence.min(5), 1);
        let taken = store.take_beats(&[odd, sound], 0, at(0)).await.unwrap();
        assert_eq!(taken.len(), 2);
        assert_eq!(store.host_row(&host(1)).await.unwrap().unwrap().status, expected);
    }
    assert_eq!(ready(&store).await.1, 9_000_000_000_000_000_000);
    let boots = store.host_boots(&release('a'), at(0)).await.unwrap();
    assert_eq!(boots[1].outcomes["ready"], 2);
}

async fn batches_in_any_order_do_not_wait_in_a_circle(database: Database) {
    let replicas = [database.open().await, database.open().await];
    let batches: Vec<_> = (0..6_u64)
        .map(|number| {
            let store = replicas[number as usize % 2].clone();
            tokio::spawn(async move {
                for sequence in 1..=10 {
                    let mut batch: Vec<Beat> = (0..30)
                        .map(|host| Beat {
                            stream: stream(number),
                            wants: vec![release('z')],
                            ..booted(host, sequence, 1)
                        })
                        .collect();
                    if number % 2 == 0 {
                        batch.reverse();
                    }
                    store.take_beats(&batch, 10, at(0)).await.unwrap();
                }
            })
        })
        .collect();
    for batch in batches {
        batch.await.unwrap();
    }
    assert_eq!(ready(&replicas[0]).await.0, 6 * 10 * 30);
}
