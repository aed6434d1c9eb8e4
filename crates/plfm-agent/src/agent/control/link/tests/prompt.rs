//! How soon boots are told, by what waits for them.

use std::collections::VecDeque;

use plfm_api::control::Canary;

use super::*;

const MINUTE_MS: u64 = 60_000;

/// A world whose hosts shall come once a minute, a while after its beginning.
fn quiet_world(seed: u64, boot_every: Duration, target: Target) -> World {
    let mut world = world_where(seed, 0.0, boot_every);
    lock(&world.model).interval_ms = Some(MINUTE_MS);
    lock(&world.model).target = target;
    world.run_for(Duration::from_secs(200));
    world
}

fn plain() -> Target {
    Target {
        generation: Generation(1),
        default: Some(release(1)),
        ..Target::default()
    }
}

fn in_rollout() -> Target {
    Target {
        canary: Some(Canary {
            release: release(2),
            weight: 100,
            cohort: None,
        }),
        ..plain()
    }
}

impl World {
    /// Sets how boots go, lets those before be told, and gives the longest that any boot in `duration` waited to be counted.
    fn longest_wait(&mut self, kind: Kind, duration: Duration) -> Duration {
        lock(&self.disk).kind = kind;
        self.run_for(Duration::from_secs(90));
        let until = self.sim.elapsed() + duration;
        let (mut waiting, mut longest) = (VecDeque::new(), Duration::ZERO);
        let (mut booted, counted_before) = (self.booted(), self.counted());
        let mut told = booted - counted_before;
        waiting.extend((0..told).map(|_| self.sim.elapsed()));
        while self.sim.elapsed() < until {
            self.sim.step().unwrap();
            let now = self.sim.elapsed();
            waiting.extend((booted..self.booted()).map(|_| now));
            booted = self.booted();
            told = self.booted() - self.counted();
            while u64::try_from(waiting.len()).unwrap() > told {
                longest = longest.max(now - waiting.pop_front().unwrap());
            }
        }
        longest
    }
}

#[test]
fn failures_and_a_canarys_boots_are_told_at_once() {
    let mut world = quiet_world(11, Duration::from_secs(7), plain());
    for kind in [Kind::Failing, Kind::Canary] {
        let longest = world.longest_wait(kind, Duration::from_secs(600));
        assert!(longest < Duration::from_secs(2), "{kind:?}: {longest:?}");
    }
}

#[test]
fn good_boots_wait_for_the_heartbeat_and_half_a_minute_at_most_in_a_rollout() {
    let mut world = quiet_world(12, Duration::from_secs(7), plain());
    let before = lock(&world.model).heartbeats;
    let longest = world.longest_wait(Kind::Good, Duration::from_secs(600));
    assert!(longest > Duration::from_secs(50), "{longest:?}");
    let heartbeats = lock(&world.model).heartbeats - before;
    assert!((10..=14).contains(&heartbeats), "{heartbeats} in 690 s");
    let mut world = quiet_world(13, Duration::from_secs(7), in_rollout());
    let longest = world.longest_wait(Kind::Good, Duration::from_secs(600));
    assert!(longest < Duration::from_secs(32), "{longest:?}");
    assert!(longest > Duration::from_secs(15), "{longest:?}");
}

#[test]
fn boots_that_waited_for_the_heartbeat_are_told_when_a_rollout_begins() {
    let mut world = quiet_world(14, Duration::from_secs(7), plain());
    lock(&world.model).interval_ms = Some(600_000);
    world.run_for(Duration::from_secs(70));
    let counted = world.counted();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.counted(), counted);
    let booted = world.booted();
    lock(&world.model).target = Target {
        generation: Generation(2),
        ..in_rollout()
    };
    world.run_for(Duration::from_secs(35));
    assert!(world.counted() >= booted, "{} of {booted}", world.counted());
}

#[test]
fn a_thousand_failures_make_a_heartbeat_a_second_at_most_and_count_once() {
    let mut world = quiet_world(15, Duration::from_millis(50), Target::default());
    lock(&world.disk).kind = Kind::Failing;
    lock(&world.model).target = plain();
    world.run_for(Duration::from_secs(5));
    let before = lock(&world.model).heartbeats;
    world.run_for(Duration::from_secs(55));
    let heartbeats = lock(&world.model).heartbeats - before;
    assert!((40..=56).contains(&heartbeats), "{heartbeats} in 55 s");
    let (counted, booted) = (world.counted(), world.booted());
    assert!(booted > 800, "{booted}");
    // All but those of the last second and a half.
    assert!(
        counted <= booted && booted - counted <= 40,
        "{counted} of {booted}"
    );
}

#[test]
fn urgent_news_on_a_bad_network_of_a_dying_agent_count_once() {
    let mut world = world_where(16, 0.02, Duration::from_secs(3));
    lock(&world.model).interval_ms = Some(MINUTE_MS);
    world.set_default(1, 1);
    lock(&world.disk).kind = Kind::Failing;
    for n in 0..60_u64 {
        world.run_for(Duration::from_millis(9_000 + n * 191 % 5_000));
        assert!(world.counted() <= world.booted());
        if n.is_multiple_of(4) {
            world.sim.crash(AGENT);
            world.run_for(Duration::from_millis(100));
            world.sim.bounce(AGENT);
        }
    }
    world.sim.set_fail_rate(0.0);
    world.sim.repair(AGENT, CONTROL);
    world.run_for(Duration::from_secs(180));
    let (counted, booted) = world.settle();
    assert!(
        booted > 100 && counted <= booted && booted - counted <= 1,
        "{counted} of {booted}"
    );
}
