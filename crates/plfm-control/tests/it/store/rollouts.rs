//! What rollouts are judged by, and who judges.

use std::time::Duration;

use plfm_control::store::{BootReport, Desk, ReportCursor, Store, View};
use sqlx::{ConnectOptions as _, Connection as _};

use super::fixture::{Database, at, booted, host, release};
use super::on_both;

on_both!(
    reports_are_read_once_and_in_order,
    more_reports_than_a_page_has_are_all_read,
    old_reports_are_removed_and_young_ones_read_on,
    one_replica_holds_the_desk_until_its_word_is_over,
    what_was_seen_is_laid_down_by_whoever_holds_the_desk,
);

async fn all(store: &Store, cursor: &mut ReportCursor) -> Vec<BootReport> {
    let mut reports = Vec::new();
    loop {
        let (some, more) = store.read_reports(cursor).await.unwrap();
        reports.extend(some);
        if !more {
            return reports;
        }
    }
}

fn counts(reports: &[BootReport]) -> Vec<u32> {
    reports.iter().map(|report| report.count).collect()
}

async fn report(store: &Store, number: u32, sequence: u64, count: u32) {
    let taken = store
        .take_beats(&[booted(number, sequence, count)], 0, at(0))
        .await;
    taken.unwrap();
}

fn insert(minute_seconds: i64, count: &str, rows: u32) -> String {
    let (minute, release, host) = (at(minute_seconds).as_microsecond(), release('a'), host(7));
    format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO boot_reports (minute, release, host, outcome, bucket, count)
         SELECT {minute}, '{release}', '{host}', 'ready', -1, {count} FROM n"
    )
}

async fn reports_are_read_once_and_in_order(database: Database) {
    let store = database.open().await;
    let mut cursor = ReportCursor::default();
    assert!(all(&store, &mut cursor).await.is_empty());
    report(&store, 1, 1, 3).await;
    report(&store, 2, 1, 4).await;
    let seen = all(&store, &mut cursor).await;
    assert_eq!(counts(&seen), [3, 4]);
    assert_eq!(
        (&seen[0].host, &seen[0].release, seen[0].minute),
        (&host(1), &release('a'), at(0))
    );
    // A heartbeat that comes again is no new report.
    report(&store, 2, 1, 4).await;
    assert!(all(&store, &mut cursor).await.is_empty());
    report(&store, 1, 2, 5).await;
    assert_eq!(counts(&all(&store, &mut cursor).await), [5]);
    let mut anew = ReportCursor::default();
    assert_eq!(counts(&all(&store, &mut anew).await), [3, 4, 5]);
}

async fn more_reports_than_a_page_has_are_all_read(database: Database) {
    let store = database.open().await;
    database.sql(&insert(0, "i", 20_001)).await.unwrap();
    let mut cursor = ReportCursor::default();
    let seen = all(&store, &mut cursor).await;
    assert!(counts(&seen).into_iter().eq(1..=20_001));
    assert!(all(&store, &mut cursor).await.is_empty());
}

async fn old_reports_are_removed_and_young_ones_read_on(database: Database) {
    let store = database.open().await;
    database.sql(&insert(-60, "1", 15_000)).await.unwrap();
    database.sql(&insert(0, "2", 3)).await.unwrap();
    let mut cursor = ReportCursor::default();
    store.read_reports(&mut cursor).await.unwrap();
    assert_eq!(store.prune_reports(at(0)).await.unwrap(), 15_000);
    assert_eq!(counts(&all(&store, &mut cursor).await), [2, 2, 2]);
    assert_eq!(store.prune_reports(at(0)).await.unwrap(), 0);
    report(&store, 1, 1, 9).await;
    assert_eq!(counts(&all(&store, &mut cursor).await), [9]);
}

/// Transactions end in another order than they began in; whoever reads in between misses nothing and gets nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(postgres_installed), ignore = "needs PostgreSQL 15")]
async fn a_report_of_a_transaction_that_ends_late_is_read_all_the_same() {
    let database = Database::postgres().await;
    let store = database.open().await;
    let options: sqlx::postgres::PgConnectOptions = database.url.parse().unwrap();
    let mut slow = options.connect().await.unwrap();
    let mut late = slow.begin().await.unwrap();
    let text = sqlx::AssertSqlSafe(insert(0, "77", 1));
    sqlx::raw_sql(text).execute(&mut *late).await.unwrap();
    let mut cursor = ReportCursor::default();
    report(&store, 1, 1, 3).await;
    assert_eq!(counts(&all(&store, &mut cursor).await), [3]);
    report(&store, 1, 2, 4).await;
    assert_eq!(counts(&all(&store, &mut cursor).await), [4]);
    late.commit().await.unwrap();
    report(&store, 1, 3, 5).await;
    assert_eq!(counts(&all(&store, &mut cursor).await), [77, 5]);
    assert!(all(&store, &mut cursor).await.is_empty());
}

async fn one_replica_holds_the_desk_until_its_word_is_over(database: Database) {
    let store = database.open().await;
    let take = async |holder, seconds| {
        let time = Duration::from_secs(8);
        store.take_desk(holder, time, at(seconds)).await.unwrap()
    };
    assert_eq!(take("a", 0).await, Desk::Ours);
    assert_eq!(take("b", 5).await, Desk::Theirs);
    assert_eq!(take("a", 6).await, Desk::Ours);
    assert_eq!(take("b", 13).await, Desk::Theirs);
    assert_eq!(take("b", 15).await, Desk::Ours);
    assert_eq!(take("a", 16).await, Desk::Theirs);
    store.leave_desk("a").await.unwrap();
    assert_eq!(take("a", 16).await, Desk::Theirs);
    store.leave_desk("b").await.unwrap();
    assert_eq!(take("a", 16).await, Desk::Ours);
}

async fn what_was_seen_is_laid_down_by_whoever_holds_the_desk(database: Database) {
    let store = database.open().await;
    assert_eq!(store.view().await.unwrap(), None);
    let view = |seconds, text: &str| View {
        at: at(seconds),
        document: text.to_owned(),
    };
    let time = Duration::from_secs(8);
    store.take_desk("a", time, at(0)).await.unwrap();
    store.keep_view("a", &view(1, "first")).await.unwrap();
    store.keep_view("b", &view(2, "not b's to say")).await.unwrap();
    assert_eq!(store.view().await.unwrap(), Some(view(1, "first")));
}
