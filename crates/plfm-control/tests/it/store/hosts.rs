//! Lists of hosts.

use plfm_api::ReleaseState::{Current, Installed};
use plfm_api::control::HostId;
use plfm_control::store::{Beat, HostFilter, Store};

use super::fixture::{Database, at, host, plain, release, with_status};
use super::on_both;

on_both!(
    hosts_are_listed_in_order_page_by_page,
    hosts_are_listed_by_what_is_asked_for
);

async fn fill(store: &Store) {
    let mut beats: Vec<Beat> = (0..10)
        .map(|number| match number % 2 {
            0 => with_status(number, 1, &[(release('a'), Current, number)]),
            _ => plain(number, 0),
        })
        .map(|beat| Beat {
            seen_at: at(5),
            ..beat
        })
        .collect();
    beats[4] = Beat {
        seen_at: at(1),
        ..with_status(4, 1, &[(release('b'), Installed, 0), (release('a'), Current, 1)])
    };
    beats.reverse();
    store.take_beats(&beats, 0, at(0)).await.unwrap();
}

async fn hosts_are_listed_in_order_page_by_page(database: Database) {
    let store = database.open().await;
    fill(&store).await;
    let mut listed: Vec<HostId> = Vec::new();
    for _ in 0..5 {
        let page = store
            .host_rows(listed.last(), 3, &HostFilter::default())
            .await
            .unwrap();
        listed.extend(page.into_iter().map(|row| row.host));
    }
    assert_eq!(listed, (0..10).map(host).collect::<Vec<_>>());
    let some = store.host_rows_of(&[host(7), host(2), host(99)]).await.unwrap();
    assert_eq!(
        some.iter().map(|row| row.host.clone()).collect::<Vec<_>>(),
        [host(2), host(7)]
    );
    assert_eq!(
        some[0].status,
        with_status(2, 1, &[(release('a'), Current, 2)]).status
    );
    assert_eq!((some[0].status_at, some[1].status_at), (Some(at(5)), None));
    assert_eq!(some[1].status, None);
    assert_eq!(store.host_row(&host(99)).await.unwrap(), None);
}

async fn hosts_are_listed_by_what_is_asked_for(database: Database) {
    let store = database.open().await;
    fill(&store).await;
    let listed = async |filter: HostFilter| -> Vec<HostId> {
        let rows = store.host_rows(None, 100, &filter).await.unwrap();
        rows.into_iter().map(|row| row.host).collect()
    };
    let by_release = |letter| HostFilter {
        release: Some(release(letter)),
        ..HostFilter::default()
    };
    assert_eq!(listed(by_release('a')).await, [0, 2, 4, 6, 8].map(host));
    assert_eq!(listed(by_release('b')).await, [host(4)]);
    assert_eq!(listed(by_release('c')).await, []);
    let silent = HostFilter {
        silent_since: Some(at(5)),
        ..HostFilter::default()
    };
    assert_eq!(listed(silent).await, [host(4)]);
    let active = HostFilter {
        seen_since: Some(at(5)),
        ..by_release('a')
    };
    assert_eq!(listed(active).await, [0, 2, 6, 8].map(host));
}
