//! The event log.

use std::collections::BTreeMap;

use plfm_control::store::{AppendError, Store};
use serde_json::json;

use super::fixture::{Database, event};
use super::on_both;

on_both!(
    positions_and_sequences_have_no_gaps_under_eight_appenders_on_two_replicas,
    an_append_on_an_older_head_is_told_where_the_log_is,
    an_append_that_moved_leaves_nothing,
    events_cannot_be_changed_removed_or_inserted_out_of_order_even_by_sql,
    an_event_is_read_as_it_was_written,
    events_are_read_in_pieces_and_by_aggregate,
    a_log_that_was_tampered_with_is_not_opened,
);

async fn append_until_it_fits(store: &Store, aggregate: &str, kind: &str) -> u64 {
    let mut head = store.head().await.unwrap();
    loop {
        let events = [event(aggregate, kind), event("fleet", kind)];
        match store.append(head, &events, None).await {
            Ok(appended) => return appended[0].position,
            Err(AppendError::Moved { head: moved }) => {
                assert!(moved > head);
                head = moved;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn positions_and_sequences_have_no_gaps_under_eight_appenders_on_two_replicas(database: Database) {
    let replicas = [database.open().await, database.open().await];
    let appenders: Vec<_> = (0..8)
        .map(|appender: usize| {
            let store = replicas[appender % 2].clone();
            tokio::spawn(async move {
                let mut positions = Vec::new();
                for number in 0..10 {
                    let kind = format!("{appender}-{number}");
                    positions.push(append_until_it_fits(&store, &format!("host/{appender}"), &kind).await);
                }
                positions
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for appender in appenders {
        acknowledged.extend(appender.await.unwrap());
    }
    let events = replicas[0].events(0, 1000, None).await.unwrap();
    assert_eq!(events.len(), 160);
    let mut sequences = BTreeMap::new();
    for (position, event) in (1..).zip(&events) {
        assert_eq!(event.position, position);
        let sequence = sequences.entry(event.aggregate.clone()).or_insert(0);
        *sequence += 1;
        assert_eq!(event.sequence, *sequence, "of {}", event.aggregate);
    }
    assert_eq!(sequences.len(), 9);
    acknowledged.sort_unstable();
    let odd: Vec<u64> = (1..=160).step_by(2).collect();
    assert_eq!(acknowledged, odd, "each append got two positions in a row");
    assert_eq!(replicas[1].head().await.unwrap(), 160);
}

async fn an_append_on_an_older_head_is_told_where_the_log_is(database: Database) {
    let store = database.open().await;
    assert_eq!(store.head().await.unwrap(), 0);
    let appended = store
        .append(0, &[event("fleet", "a"), event("fleet", "b")], None)
        .await
        .unwrap();
    assert_eq!(
        appended.iter().map(|event| event.sequence).collect::<Vec<_>>(),
        [1, 2]
    );
    for wrong in [0, 1, 3, u64::MAX] {
        let error = store
            .append(wrong, &[event("fleet", "c")], None)
            .await
            .unwrap_err();
        assert!(matches!(error, AppendError::Moved { head: 2 }), "{error}");
    }
    store.append(2, &[event("fleet", "c")], None).await.unwrap();
}

async fn an_append_that_moved_leaves_nothing(database: Database) {
    let store = database.open().await;
    store.append(0, &[event("fleet", "a")], None).await.unwrap();
    let refused = store.append(0, &[event("fleet", "b")], None).await;
    assert!(refused.is_err());
    assert_eq!(store.events(0, 10, None).await.unwrap().len(), 1);
    assert_eq!(store.head().await.unwrap(), 1);
}

async fn events_cannot_be_changed_removed_or_inserted_out_of_order_even_by_sql(database: Database) {
    let store = database.open().await;
    let events = [event("fleet", "a"), event("fleet", "b")];
    let appended = store.append(0, &events, None).await.unwrap();
    let mut statements = vec![
        "UPDATE events SET kind = 'c'",
        "UPDATE events SET position = 9 WHERE position = 2",
        "DELETE FROM events WHERE position = 2",
        "DELETE FROM events",
        "INSERT INTO events VALUES (4, 'fleet', 3, 0, '{}', 'gap in positions', '{}')",
        "INSERT INTO events VALUES (3, 'fleet', 4, 0, '{}', 'gap in sequences', '{}')",
        "INSERT INTO events VALUES (2, 'fleet', 2, 0, '{}', 'another second', '{}')",
    ];
    statements.push(match database.is_sqlite() {
        true => "INSERT OR REPLACE INTO events VALUES (2, 'fleet', 2, 0, '{}', 'replaced', '{}')",
        false => "TRUNCATE events",
    });
    for statement in statements {
        let refusal = database.sql(statement).await.unwrap_err();
        assert!(refusal.contains("events are "), "{statement}: {refusal}");
    }
    assert_eq!(store.events(0, 10, None).await.unwrap(), appended);
}

async fn an_event_is_read_as_it_was_written(database: Database) {
    let store = database.open().await;
    let mut odd = event("release/6.1.50", "odd");
    odd.detail = json!({
        "large": u64::MAX, "small": i64::MIN, "half": 0.5, "tiny": 1e-300, "nothing": null, "": [[], {}],
        "text": "\u{0} ' \" \\ \u{1F600} \u{202e}", "b": 1, "a": { "z": 2, "y": 3 },
    });
    odd.actor.name = "O'Brien \"\u{0}\" \\u0000".to_owned();
    odd.at = "2026-11-24T12:34:56.123456789Z".parse().unwrap();
    let appended = store.append(0, &[odd.clone()], None).await.unwrap();
    let read = store.events(0, 10, None).await.unwrap();
    assert_eq!(read, appended);
    assert_eq!(read[0].detail, odd.detail);
    assert_eq!(read[0].actor, odd.actor);
    assert_eq!(read[0].at, "2026-11-24T12:34:56.123456Z".parse().unwrap());
}

async fn events_are_read_in_pieces_and_by_aggregate(database: Database) {
    let store = database.open().await;
    let events: Vec<_> = (0..10)
        .map(|number| event(if number % 2 == 0 { "fleet" } else { "host/1" }, "a"))
        .collect();
    store.append(0, &events, None).await.unwrap();
    let positions = async |after, limit, aggregate| -> Vec<u64> {
        let events = store.events(after, limit, aggregate).await.unwrap();
        events.iter().map(|event| event.position).collect()
    };
    assert_eq!(positions(0, 3, None).await, [1, 2, 3]);
    assert_eq!(positions(8, 3, None).await, [9, 10]);
    assert_eq!(positions(10, 3, None).await, [0; 0]);
    assert_eq!(positions(1, 3, Some("fleet")).await, [3, 5, 7]);
    assert_eq!(positions(0, 3, Some("host/2")).await, [0; 0]);
    assert_eq!(positions(u64::MAX, usize::MAX, None).await, [0; 0]);
}

async fn a_log_that_was_tampered_with_is_not_opened(database: Database) {
    let store = database.open().await;
    store.append(0, &[event("fleet", "a")], None).await.unwrap();
    store.close().await;
    database.sql("UPDATE log_head SET position = 5").await.unwrap();
    let error = Store::open(&database.url).await.err().unwrap();
    assert_eq!(error.code(), "database_corrupt");
}
