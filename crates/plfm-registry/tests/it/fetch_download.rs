//! Downloads that are cut, shared, cancelled and gone on with.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use plfm_registry::fetch::{FetchProgress, FetchRequest, Mirror, RegistryClient};
use plfm_release::{ArtifactKind, Sha256Digest};
use tokio::sync::Notify;

use crate::fetch_fixtures::*;
use crate::fetch_server::{Reply, Server};

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was_cut() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let server = Server::evil(&repository.files, |request| {
        match (request.path.contains("vmlinuz"), request.range) {
            (true, None) => Reply::Cut(10_000),
            (true, Some(10_000)) => Reply::Cut(10_000),
            _ => Reply::Good,
        }
    })
    .await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let fetched = fetch(&client, &view, &release.id()).await.unwrap();
    assert_eq!(content(&fetched, ArtifactKind::Kernel), release.kernel);
    let requests = server.requests_for(&release.path(ArtifactKind::Kernel));
    let ranges: Vec<_> = requests.iter().map(|request| request.range).collect();
    assert_eq!(ranges, [None, Some(10_000), Some(20_000)]);
    let etag = format!("\"{}\"", Sha256Digest::of(&release.kernel));
    assert!(
        requests[1..]
            .iter()
            .all(|request| request.if_range.as_deref() == Some(&etag))
    );
}

#[tokio::test]
async fn the_whole_file_in_answer_to_a_range_request_is_never_appended() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let server = Server::evil(&repository.files, |request| match request.range {
        None if request.path.contains("vmlinuz") => Reply::Cut(100),
        None => Reply::Good,
        Some(_) => Reply::Whole,
    })
    .await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let fetched = fetch(&client, &view, &release.id()).await.unwrap();
    assert_eq!(content(&fetched, ArtifactKind::Kernel), release.kernel);
    assert_eq!(server.requests_for(&release.path(ArtifactKind::Kernel)).len(), 2);
}

#[tokio::test]
async fn a_range_that_the_server_does_not_have_starts_over() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let calls = AtomicUsize::new(0);
    let server = Server::evil(&repository.files, move |request| {
        match (request.path.contains("vmlinuz"), request.range) {
            (true, None) if calls.fetch_add(1, SeqCst) == 0 => Reply::Cut(100),
            (true, Some(_)) => Reply::Raw(b"HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
            _ => Reply::Good,
        }
    })
    .await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let fetched = fetch(&client, &view, &release.id()).await.unwrap();
    assert_eq!(content(&fetched, ArtifactKind::Kernel), release.kernel);
}

#[tokio::test]
async fn a_download_goes_on_after_a_restart() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let server = Server::evil(&repository.files, |request| {
        match request.path.contains("vmlinuz") {
            true if request.range.is_none() => Reply::Cut(20_000),
            true => Reply::Cut(0),
            false => Reply::Good,
        }
    })
    .await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    assert_eq!(
        fetch(&client, &view, &release.id()).await.unwrap_err().code(),
        "registry_unreachable"
    );
    drop(client);
    server.behave(|_| Reply::Good);
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let fetched = fetch(&client, &view, &release.id()).await.unwrap();
    assert_eq!(content(&fetched, ArtifactKind::Kernel), release.kernel);
    let last = server
        .requests_for(&release.path(ArtifactKind::Kernel))
        .pop()
        .unwrap();
    assert_eq!(last.range, Some(20_000));
}

#[tokio::test]
async fn a_hundred_askers_make_one_download() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let server = Server::serve(&repository.files).await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let id = release.id();
    let askers = (0..100).map(|_| fetch(&client, &view, &id));
    let fetched = futures_util::future::try_join_all(askers).await.unwrap();
    assert_eq!(fetched.len(), 100);
    for kind in ArtifactKind::ALL {
        assert_eq!(server.requests_for(&release.path(kind)).len(), 1);
    }
    drop(fetched);
    assert_eq!(
        std::fs::read_dir(dir.path().join("state/downloads"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn the_first_asker_may_go_and_the_download_goes_on() {
    let dir = directory();
    let release = Release::of("a", vec![7; 100], b"initramfs".to_vec());
    let repository = Repository::with(&[&release]);
    let server = Server::evil(&repository.files, |request| {
        match request.path.contains("vmlinuz") {
            true => Reply::Trickle(Duration::from_millis(1)),
            false => Reply::Good,
        }
    })
    .await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let (id, policy, joined) = (release.id(), policy(now()), Notify::new());
    let has_joined = |_| joined.notify_one();
    let request = |progress| FetchRequest {
        release: &id,
        keyring: view.keyring().unwrap().keyring(),
        policy: &policy,
        is_here: &|_| false,
        progress,
    };
    let mut first = Box::pin(client.fetch_release(&view, request(&|_| {})));
    // Its first progress comes when it waits for the artifacts.
    let mut second = Box::pin(client.fetch_release(&view, request(&has_joined)));
    tokio::select! {
        biased;
        _ = &mut first => panic!("the first is done"),
        _ = &mut second => panic!("the second is done"),
        () = joined.notified() => {}
    }
    drop(first);
    let fetched = second.await.unwrap();
    assert_eq!(content(&fetched, ArtifactKind::Kernel), release.kernel);
    assert_eq!(server.requests_for(&release.path(ArtifactKind::Kernel)).len(), 1);
}

#[tokio::test]
async fn what_the_host_has_is_not_fetched_and_progress_ends_at_the_total() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let server = Server::serve(&repository.files).await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let seen = Mutex::new(Vec::new());
    let request = FetchRequest {
        release: &release.id(),
        keyring: view.keyring().unwrap().keyring(),
        policy: &policy(now()),
        is_here: &|artifact| artifact.kind == ArtifactKind::Initramfs,
        progress: &|progress| seen.lock().unwrap().push(progress),
    };
    let fetched = client.fetch_release(&view, request).await.unwrap();
    assert!(fetched.file(ArtifactKind::Initramfs).is_none());
    assert_eq!(
        fetched.open(ArtifactKind::Initramfs).unwrap_err().kind(),
        std::io::ErrorKind::NotFound
    );
    assert!(
        server
            .requests_for(&release.path(ArtifactKind::Initramfs))
            .is_empty()
    );
    let total = release.kernel.len() as u64;
    let end = FetchProgress {
        bytes_done: total,
        bytes_total: total,
    };
    assert_eq!(seen.lock().unwrap().last(), Some(&end));
}

#[tokio::test]
async fn a_directory_is_a_mirror_too() {
    let (dir, mirror, release) = (directory(), directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    for (path, content) in &repository.files {
        let path = mirror.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let client = open(
        vec![Mirror::Dir(mirror.path().to_owned())],
        dir.path(),
        repository.root(),
    );
    let view = client.update(now()).await.unwrap();
    let fetched = fetch(&client, &view, &release.id()).await.unwrap();
    assert_eq!(content(&fetched, ArtifactKind::Kernel), release.kernel);
}

#[tokio::test]
async fn an_update_that_finds_nothing_new_costs_two_requests() {
    let (dir, repository) = (directory(), Repository::with(&[&Release::new("a")]));
    let server = Server::serve(&repository.files).await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    client.update(now()).await.unwrap();
    let before = server.requests().len();
    let view = client.update(now()).await.unwrap();
    assert_eq!(view.releases().len(), 1);
    let paths: Vec<_> = server
        .requests()
        .into_iter()
        .skip(before)
        .map(|request| request.path)
        .collect();
    assert_eq!(paths, ["metadata/2.root.json", "metadata/timestamp.json"]);
}

#[tokio::test]
async fn the_keyring_is_known_after_a_restart_without_a_registry() {
    let (dir, repository) = (directory(), Repository::with(&[]));
    let server = Server::serve(&repository.files).await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    assert!(client.trusted_keyring().is_none());
    client.update(now()).await.unwrap();
    drop((client, server));
    let client = open(Vec::new(), dir.path(), repository.root());
    assert_eq!(client.trusted_keyring().unwrap().keyring(), &keyring());
    assert_eq!(client.updated_at(), Some(now()));
}

#[tokio::test]
async fn a_directory_is_used_by_one_client_at_a_time() {
    let (dir, repository) = (directory(), Repository::with(&[]));
    let client = open(Vec::new(), dir.path(), repository.root());
    let second = RegistryClient::open(settings(Vec::new(), dir.path()), repository.root());
    assert_eq!(second.unwrap_err().code(), "directory_locked");
    drop(client);
    open(Vec::new(), dir.path(), repository.root());
}

#[tokio::test]
async fn a_damaged_state_is_an_error_and_not_a_new_beginning() {
    let (dir, repository) = (directory(), Repository::with(&[]));
    drop(open(Vec::new(), dir.path(), repository.root()));
    std::fs::write(dir.path().join("state/trusted.json"), b"{}").unwrap();
    let error = RegistryClient::open(settings(Vec::new(), dir.path()), repository.root()).unwrap_err();
    assert_eq!(error.code(), "registry_state_damaged");
}
