//! Random deliveries against what must hold: whatever the order, the repetitions and the replicas, what was said to be
//! applied is what is counted, and it is applied once.

use std::collections::{BTreeMap, BTreeSet};

use plfm_api::ReleaseState;
use plfm_control::store::{Beat, HostFilter, STREAMS_MAX, Store, Taken};
use plfm_release::ReleaseId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::fixture::{Database, at, booted, plain, ready, ready_by_host, release, status, stream};

/// One heartbeat on its way. The content of news is a function of host, stream and sequence, as with a real agent.
#[derive(Debug, Clone)]
struct Delivery {
    host: u32,
    stream: u64,
    sequence: u64,
    has_news: bool,
}

impl Delivery {
    fn boots(&self) -> u64 {
        1 + self.stream * 10 + self.sequence
    }

    fn inventory(&self) -> Vec<(ReleaseId, ReleaseState, u32)> {
        let states = [
            ReleaseState::Current,
            ReleaseState::Installed,
            ReleaseState::Refused,
        ];
        let number = self.boots() as usize;
        ['a', 'b', 'c']
            .into_iter()
            .take(number % 4)
            .zip(states.into_iter().cycle().skip(number / 4 % 3))
            .map(|(letter, state)| (release(letter), state, number as u32))
            .collect()
    }

    fn beat(&self, first_host: u32, seconds: i64) -> Beat {
        let host = first_host + self.host;
        let mut beat = match self.has_news {
            true => booted(host, self.sequence, self.boots() as u32),
            false => plain(host, self.sequence),
        };
        if self.has_news && self.boots().is_multiple_of(2) {
            beat.status = Some(status(&self.inventory()));
        }
        Beat {
            stream: stream(self.stream),
            seen_at: at(seconds),
            ..beat
        }
    }
}

fn delivery() -> impl Strategy<Value = Delivery> {
    (0..3_u32, 0..11_u64, 1..5_u64, prop::bool::weighted(0.8)).prop_map(
        |(host, stream, sequence, has_news)| Delivery {
            host,
            stream,
            sequence,
            has_news,
        },
    )
}

/// Rounds of two batches, one for each replica, that are taken at the same time.
fn rounds() -> impl Strategy<Value = Vec<[Vec<Delivery>; 2]>> {
    let batch = || {
        prop::collection::vec(delivery(), 1..4).prop_map(|mut batch| {
            let mut hosts = BTreeSet::new();
            batch.retain(|delivery| hosts.insert(delivery.host));
            batch
        })
    };
    prop::collection::vec([batch(), batch()], 1..25)
}

/// What is known from the answers alone.
#[derive(Default)]
struct Model {
    /// The last applied sequence by host and stream.
    last: BTreeMap<(u32, u64), u64>,
    /// Streams by host that ever had news applied.
    streams: BTreeMap<u32, BTreeSet<u64>>,
    boots: u64,
}

impl Model {
    fn check(&mut self, batches: &[(&Delivery, &Taken)]) {
        for (delivery, taken) in batches {
            if !taken.applied {
                continue;
            }
            assert!(delivery.has_news && !taken.refused);
            assert_eq!(taken.sequence, delivery.sequence);
            let last = self.last.entry((delivery.host, delivery.stream)).or_insert(0);
            // Of two in one round, the smaller one may have been taken first.
            self.boots += delivery.boots();
            self.streams
                .entry(delivery.host)
                .or_default()
                .insert(delivery.stream);
            *last = (*last).max(delivery.sequence);
        }
        for (delivery, taken) in batches {
            let last = self
                .last
                .get(&(delivery.host, delivery.stream))
                .copied()
                .unwrap_or(0);
            let streams = self.streams.get(&delivery.host).map_or(0, BTreeSet::len);
            if taken.refused {
                assert!(streams > STREAMS_MAX, "refused, though none was forgotten");
                assert_eq!(taken.sequence, 0);
            } else {
                assert!(taken.sequence <= last);
                assert!(!delivery.has_news || taken.sequence >= delivery.sequence);
            }
        }
    }
}

/// The totals by release are the sums of what the hosts say.
async fn check_totals(store: &Store) {
    let mut sums: BTreeMap<ReleaseId, (u64, u64, u64)> = BTreeMap::new();
    for row in store
        .host_rows(None, 10_000, &HostFilter::default())
        .await
        .unwrap()
    {
        for held in row.status.into_iter().flat_map(|status| status.releases) {
            let sum = sums.entry(held.release).or_default();
            sum.0 += u64::from(held.state != ReleaseState::Refused);
            sum.1 += u64::from(held.state == ReleaseState::Current);
            sum.2 += u64::from(held.instances);
        }
    }
    let counts = store.release_counts(at(-1)).await.unwrap();
    let counts = counts.into_iter().map(|count| {
        (
            count.release,
            (count.hosts_installed, count.hosts_current, count.instances),
        )
    });
    assert_eq!(counts.collect::<BTreeMap<_, _>>(), sums);
}

async fn run(replicas: &[Store; 2], first_host: u32, rounds: &[[Vec<Delivery>; 2]]) -> u64 {
    let mut model = Model::default();
    let mut seen: BTreeSet<(u32, u64, u64)> = BTreeSet::new();
    for (seconds, round) in (0..).zip(rounds) {
        let beats = round.each_ref().map(|batch| {
            batch
                .iter()
                .map(|delivery| delivery.beat(first_host, seconds))
                .collect::<Vec<_>>()
        });
        let (a, b) = tokio::join!(
            replicas[0].take_beats(&beats[0], 0, at(seconds)),
            replicas[1].take_beats(&beats[1], 0, at(seconds)),
        );
        let taken = [a.unwrap(), b.unwrap()].concat();
        let deliveries: Vec<_> = round.iter().flatten().zip(&taken).collect();
        for (delivery, taken) in &deliveries {
            let news = (delivery.host, delivery.stream, delivery.sequence);
            assert!(
                !taken.applied || seen.insert(news),
                "{delivery:?} was applied twice"
            );
        }
        model.check(&deliveries);
    }
    model.boots
}

fn check(runtime: &tokio::runtime::Runtime, database: &Database, cases: u32) {
    let replicas = runtime.block_on(async { [database.open().await, database.open().await] });
    let next = std::cell::Cell::new((0_u32, 0_u64));
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&rounds(), |rounds| {
        let (first_host, before) = next.get();
        let total = runtime.block_on(async {
            let boots = run(&replicas, first_host, &rounds).await;
            assert_eq!(
                ready(&replicas[0]).await,
                (before + boots, (before + boots) * 100)
            );
            assert_eq!(ready_by_host(&replicas[1]).await, before + boots);
            check_totals(&replicas[0]).await;
            before + boots
        });
        next.set((first_host + 3, total));
        Ok(())
    });
    outcome.unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn any_deliveries_count_once_on_sqlite() {
    check(&runtime(), &Database::sqlite(), 32);
}

#[test]
#[cfg_attr(not(postgres_installed), ignore = "needs PostgreSQL 15")]
fn any_deliveries_count_once_on_postgres() {
    let runtime = runtime();
    let database = runtime.block_on(Database::postgres());
    check(&runtime, &database, 24);
}
