//! How long one decision takes over the aggregates of 100,000 hosts, at the end of a rollout that took five hours.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use plfm_release::ReleaseId;
use plfm_rollout::rollout::{
    Directive, Ending, Host, Hosts, Known, Minute, Observed, Outcomes, Plan, Rollout, Running, Side, Stage,
    Standing, decide,
};

const HOSTS: u32 = 100_000;
const MINUTES: i64 = 300;
const BEGIN: i64 = 1_764_000_000;

fn release(n: u8) -> ReleaseId {
    format!("6.1.{n}-a+guestinit-1.0.0-a")
        .parse()
        .expect("a release id")
}

/// A boot every ten minutes on each host, of both releases, 3 % of which fail; no host the same as the next.
fn outcomes() -> Outcomes {
    let mut outcomes = Outcomes::new(HOSTS, 1);
    let begin = Minute::of(Timestamp::from_second(BEGIN).expect("a time"));
    for wave in 0..5 {
        outcomes.begin_round(Minute(begin.0 + wave * 60));
    }
    let mut state = 1_u64;
    for minute in 0..MINUTES {
        for nth in 0..HOSTS / 10 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let host = Host(nth * 10 + u32::try_from(minute % 10).unwrap());
            let ending = if (state >> 33) % 100 < 3 {
                Ending::Failed
            } else {
                Ending::Ready
            };
            let side = if (state >> 60).is_multiple_of(2) {
                Side::Candidate
            } else {
                Side::Baseline
            };
            outcomes.record(host, side, Minute(begin.0 + minute), ending, 1);
        }
    }
    outcomes
}

fn bench(criterion: &mut Criterion) {
    let outcomes = outcomes();
    let plan = Plan::default();
    let begin = Timestamp::from_second(BEGIN).expect("a time");
    let rollout = Rollout {
        stage: Stage::Running(Running::Canary { wave: 3, step: 0 }),
        ..Rollout::new(release(9), release(3), begin)
    };
    let known = [3, 9].map(|n| Known {
        release: release(n),
        standing: Standing::Good,
        hosts_with: HOSTS,
        hosts_unable: 0,
    });
    let defaults = [release(3)];
    let hosts = Hosts {
        active: HOSTS,
        eligible: HOSTS,
        with_candidate: HOSTS,
        at_generation: HOSTS,
        heard: HOSTS,
    };
    let told = Directive::default();
    let now = Timestamp::from_second(BEGIN + MINUTES * 60).expect("a time");
    let observed = Observed {
        rollout: &rollout,
        told: &told,
        generation: 1,
        hosts,
        outcomes: &outcomes,
        releases: &known,
        defaults: &defaults,
        rolled_back_at: None,
    };
    criterion.bench_function("decide, 100,000 hosts, 5 hours", |bencher| {
        bencher.iter(|| decide(black_box(&plan), black_box(&observed), now));
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
