//! The fleet in numbers.

use plfm_api::ReleaseState::{Current, Installed, Refused};
use plfm_api::control::Generation;
use plfm_control::store::{Beat, FleetCounts, Store};

use super::fixture::{Database, at, booted, host, plain, ready, release, with_status};
use super::on_both;

on_both!(
    active_hosts_are_counted_by_release,
    the_fleet_is_counted_against_its_target,
    hosts_without_a_release_are_found,
    hosts_are_grouped_by_what_they_could_run,
    old_minutes_are_pruned_and_totals_stay,
    an_empty_database_counts_nothing,
);

/// Four hosts: two with the first release current, one with it installed, one with it refused and long silent.
async fn fill(store: &Store) {
    let beats = [
        with_status(1, 1, &[(release('a'), Current, 3)]),
        with_status(2, 1, &[(release('a'), Current, 0), (release('b'), Installed, 2)]),
        with_status(3, 1, &[(release('a'), Installed, 1), (release('b'), Current, 1)]),
        with_status(4, 1, &[(release('a'), Refused, 7)]),
        plain(5, 0),
    ];
    let seen = [100, 100, 100, 0, 100];
    let mut beats: Vec<Beat> = beats
        .into_iter()
        .zip(seen)
        .map(|(beat, seconds)| Beat {
            seen_at: at(seconds),
            ..beat
        })
        .collect();
    beats[1].generation = Generation(3);
    beats[2].agent_version = semver::Version::new(1, 0, 0);
    beats[2]
        .status
        .as_mut()
        .unwrap()
        .advertisement
        .guest_init_protocols = vec![1, 1];
    store.take_beats(&beats, 0, at(0)).await.unwrap();
}

async fn active_hosts_are_counted_by_release(database: Database) {
    let store = database.open().await;
    fill(&store).await;
    let counts = async |since| -> Vec<(char, u64, u64, u64)> {
        let counts = store.release_counts(at(since)).await.unwrap();
        let letter = |id: &str| id.chars().last().unwrap();
        counts
            .iter()
            .map(|count| {
                (
                    letter(&count.release.to_string()),
                    count.hosts_installed,
                    count.hosts_current,
                    count.instances,
                )
            })
            .collect()
    };
    assert_eq!(counts(50).await, [('a', 3, 2, 4), ('b', 2, 1, 3)]);
    assert_eq!(counts(0).await, [('a', 3, 2, 11), ('b', 2, 1, 3)]);
    assert_eq!(counts(101).await, []);
}

async fn the_fleet_is_counted_against_its_target(database: Database) {
    let store = database.open().await;
    fill(&store).await;
    let counts = store
        .fleet_counts(at(50), Generation(4), Some(&release('a')))
        .await
        .unwrap();
    let expected = FleetCounts {
        hosts: 5,
        hosts_active: 4,
        hosts_at_generation: 3,
        hosts_at_default: 2,
        hosts_with_default: 3,
    };
    assert_eq!(counts, expected);
    let counts = store.fleet_counts(at(50), Generation(3), None).await.unwrap();
    assert_eq!(
        (
            counts.hosts_at_generation,
            counts.hosts_at_default,
            counts.hosts_with_default
        ),
        (1, 0, 0)
    );
}

async fn hosts_without_a_release_are_found(database: Database) {
    let store = database.open().await;
    fill(&store).await;
    let lacking = store.hosts_lacking(&release('a'), at(0), 10).await.unwrap();
    assert_eq!((lacking.total, lacking.hosts), (2, vec![host(4), host(5)]));
    let lacking = store.hosts_lacking(&release('b'), at(50), 1).await.unwrap();
    assert_eq!((lacking.total, lacking.hosts), (2, vec![host(1)]));
    let lacking = store.hosts_lacking(&release('c'), at(50), 0).await.unwrap();
    assert_eq!((lacking.total, lacking.hosts), (4, vec![]));
}

async fn hosts_are_grouped_by_what_they_could_run(database: Database) {
    let store = database.open().await;
    fill(&store).await;
    let groups = store.hosts_versions(at(0)).await.unwrap();
    let mut found: Vec<_> = groups
        .iter()
        .map(|group| {
            let protocols = group.platform.as_ref().map(|(_, protocols)| protocols.clone());
            (
                group.agent_version.to_string(),
                protocols,
                group.hosts,
                group.example.clone(),
            )
        })
        .collect();
    found.sort();
    let expected = [
        ("1.0.0".to_owned(), Some(vec![1]), 1, host(3)),
        ("1.2.3".to_owned(), None, 1, host(5)),
        ("1.2.3".to_owned(), Some(vec![1, 2]), 3, host(1)),
    ];
    assert_eq!(found, expected);
    for group in &groups {
        let hosts = store.hosts_of_versions(group, at(0), 10).await.unwrap();
        assert_eq!(hosts.len() as u64, group.hosts);
        assert_eq!(hosts[0], group.example);
    }
    assert_eq!(
        store
            .hosts_versions(at(50))
            .await
            .unwrap()
            .iter()
            .map(|group| group.hosts)
            .sum::<u64>(),
        4
    );
}

async fn old_minutes_are_pruned_and_totals_stay(database: Database) {
    let store = database.open().await;
    for (sequence, seconds) in [(1, 0), (2, 59), (3, 60), (4, 150)] {
        let mut beat = booted(1, sequence, 1);
        beat.outcomes[0].window = at(seconds);
        store.take_beats(&[beat], 0, at(0)).await.unwrap();
    }
    let since = async |seconds| -> u64 {
        let boots = store.host_boots(&release('a'), at(seconds)).await.unwrap();
        boots.iter().map(|boots| boots.outcomes["ready"]).sum()
    };
    assert_eq!((since(0).await, since(60).await, since(61).await), (4, 2, 1));
    assert_eq!(
        store.prune_outcomes(at(60)).await.unwrap(),
        1,
        "the minute that both are of"
    );
    assert_eq!(since(0).await, 2);
    assert_eq!(ready(&store).await, (4, 400));
}

async fn an_empty_database_counts_nothing(database: Database) {
    let store = database.open().await;
    store.ping().await.unwrap();
    assert_eq!(store.release_counts(at(0)).await.unwrap(), []);
    assert_eq!(store.boot_totals().await.unwrap(), []);
    let counts = store
        .fleet_counts(at(0), Generation(0), Some(&release('a')))
        .await
        .unwrap();
    assert_eq!(counts, FleetCounts::default());
    assert_eq!(
        store.hosts_lacking(&release('a'), at(0), 5).await.unwrap().total,
        0
    );
    assert_eq!(store.hosts_versions(at(0)).await.unwrap(), []);
}
