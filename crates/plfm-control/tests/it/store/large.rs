//! What a fleet of 100,000 hosts costs. Not run by default: it takes a minute and asserts what depends on the machine.

use std::time::{Duration, Instant};

use plfm_api::ReleaseState::{Current, Installed};
use plfm_api::control::Generation;
use plfm_control::store::{Beat, HostFilter, Store};

use super::fixture::{Database, at, booted, host, plain, release, with_status};

const HOSTS: u32 = 100_000;
const BATCH: usize = 512;
/// What a list for an operator may wait for its counts.
const COUNT_MAX: Duration = Duration::from_millis(300);

async fn take_all(store: &Store, what: &str, beats: impl Iterator<Item = Beat>) {
    let beats: Vec<Beat> = beats.collect();
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    for batch in beats.chunks(BATCH) {
        let begin = Instant::now();
        store.take_beats(batch, 100, at(0)).await.unwrap();
        slowest = slowest.max(begin.elapsed());
    }
    let took = begin.elapsed();
    let rate = f64::from(HOSTS) / took.as_secs_f64();
    println!("{what}: {took:.1?}, {rate:.0} hosts/s, slowest batch of {BATCH} {slowest:.0?}");
}

/// The second of two times, when what is read is in memory.
async fn timed<T>(what: &str, query: impl AsyncFn() -> T) -> Duration {
    query().await;
    let begin = Instant::now();
    query().await;
    let took = begin.elapsed();
    println!("{what}: {took:.1?}");
    took
}

async fn measure(database: Database) {
    let store = database.open().await;
    let releases = |number: u32| {
        [
            (
                release('a'),
                if number.is_multiple_of(3) {
                    Current
                } else {
                    Installed
                },
                10,
            ),
            (
                release('b'),
                if number.is_multiple_of(3) {
                    Installed
                } else {
                    Current
                },
                20,
            ),
            (release('c'), Installed, 0),
        ]
    };
    take_all(
        &store,
        "first status",
        (0..HOSTS).map(|number| with_status(number, 1, &releases(number))),
    )
    .await;
    take_all(&store, "no news", (0..HOSTS).map(|number| plain(number, 1))).await;
    take_all(&store, "boots", (0..HOSTS).map(|number| booted(number, 2, 3))).await;
    take_all(
        &store,
        "status again",
        (0..HOSTS).map(|number| with_status(number, 3, &releases(number))),
    )
    .await;
    let wanting = |number| Beat {
        wants: vec![release('d')],
        ..plain(number, 3)
    };
    take_all(&store, "all want to fetch", (0..HOSTS).map(wanting)).await;
    if !database.is_sqlite() {
        database.sql("ANALYZE").await.unwrap();
    }
    let counts = timed("release_counts", async || {
        store.release_counts(at(0)).await.unwrap()
    })
    .await;
    timed("fleet_counts", async || {
        store
            .fleet_counts(at(0), Generation(4), Some(&release('a')))
            .await
            .unwrap()
    })
    .await;
    timed("hosts_lacking", async || {
        store.hosts_lacking(&release('d'), at(0), 20).await.unwrap()
    })
    .await;
    timed("hosts_versions", async || {
        store.hosts_versions(at(0)).await.unwrap()
    })
    .await;
    timed("boot_totals", async || store.boot_totals().await.unwrap()).await;
    timed("host_boots", async || {
        store.host_boots(&release('a'), at(0)).await.unwrap()
    })
    .await;
    timed("seen", async || store.seen(None).await.unwrap()).await;
    let page = HostFilter {
        release: Some(release('c')),
        ..HostFilter::default()
    };
    timed("host_rows", async || {
        store.host_rows(Some(&host(50_000)), 200, &page).await.unwrap()
    })
    .await;
    timed("prune_outcomes", async || {
        store.prune_outcomes(at(600)).await.unwrap()
    })
    .await;
    assert!(counts < COUNT_MAX, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn a_hundred_thousand_hosts_on_sqlite() {
    measure(Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn a_hundred_thousand_hosts_on_postgres() {
    measure(Database::postgres().await).await;
}
