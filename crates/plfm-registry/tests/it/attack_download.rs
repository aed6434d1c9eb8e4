//! Evil bytes: a server that sends other, more, fewer, slower or stranger bytes than were signed, and releases that are
//! well signed and wrong.

use std::time::Duration;

use plfm_registry::fetch::{DownloadError, DownloadFault, FetchError, RegistryClient};
use plfm_registry::layout::manifest_target;
use plfm_release::{ArtifactKind, Keyring, Revocation, Sha256Digest};
use serde_json::json;
use tempfile::TempDir;

use crate::fetch_fixtures::*;
use crate::fetch_server::{Reply, Request, Server};

/// Fetches the release from a repository whose server does `evil` to requests for the kernel, and gives the error.
async fn refusal(evil: impl Fn(&Request) -> Reply + Send + 'static) -> (String, Server, TempDir) {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let kernel = release.path(ArtifactKind::Kernel);
    let server = Server::evil(&repository.files, move |request| match request.path == kernel {
        true => evil(request),
        false => Reply::Good,
    })
    .await;
    let mut settings = settings(vec![server.mirror()], dir.path());
    settings.idle_timeout = Duration::from_millis(100);
    settings.rate_min.window = Duration::from_millis(200);
    let client = RegistryClient::open(settings, repository.root()).unwrap();
    let view = client.update(now()).await.unwrap();
    let error = fetch(&client, &view, &release.id()).await.unwrap_err();
    assert_nothing_unverified(dir.path());
    let final_name = dir
        .path()
        .join("state/downloads")
        .join(Sha256Digest::of(&release.kernel).to_string());
    assert!(!final_name.exists(), "the kernel has its final name");
    (error.code().to_owned(), server, dir)
}

/// The error of fetching release a from this repository.
async fn release_refusal(repository: &Repository) -> FetchError {
    let (dir, server) = (directory(), Server::serve(&repository.files).await);
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let error = fetch(&client, &view, &Release::new("a").id()).await.unwrap_err();
    assert_nothing_unverified(dir.path());
    error
}

#[tokio::test]
async fn other_bytes_of_the_right_length_are_thrown_away() {
    let evil = vec![b'x'; Release::new("a").kernel.len()];
    let (code, server, dir) = refusal(move |_| Reply::Instead(evil.clone())).await;
    assert_eq!(code, "artifact_wrong_digest");
    // The mirror is not asked again, and nothing of what it sent is left.
    assert_eq!(
        server
            .requests_for(&Release::new("a").path(ArtifactKind::Kernel))
            .len(),
        1
    );
    for entry in std::fs::read_dir(dir.path().join("state/downloads")).unwrap() {
        assert!(!std::fs::read(entry.unwrap().path()).unwrap().contains(&b'x'));
    }
}

#[tokio::test]
async fn a_longer_file_is_cut_where_the_signed_length_ends() {
    let mut evil = Release::new("a").kernel;
    evil.push(b'x');
    let (code, _, dir) = refusal(move |_| Reply::Instead(evil.clone())).await;
    assert_eq!(code, "artifact_wrong_length");
    for entry in std::fs::read_dir(dir.path().join("state/downloads")).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() <= Release::new("a").kernel.len() as u64);
    }
}

#[tokio::test]
async fn a_shorter_file_is_refused() {
    let mut evil = Release::new("a").kernel;
    evil.pop();
    let (code, ..) = refusal(move |_| Reply::Instead(evil.clone())).await;
    assert_eq!(code, "artifact_wrong_length");
}

#[tokio::test]
async fn endless_data_is_cut_where_the_signed_length_ends() {
    let (code, server, _dir) = refusal(|_| Reply::Endless).await;
    assert_eq!(code, "artifact_wrong_length");
    // What the sockets hold is all that went out beyond it.
    assert!(
        server.body_bytes_sent() < 16 << 20,
        "{} bytes",
        server.body_bytes_sent()
    );
}

#[tokio::test]
async fn a_trickle_and_a_silence_are_given_up() {
    assert_eq!(
        refusal(|_| Reply::Trickle(Duration::from_millis(5))).await.0,
        "registry_too_slow"
    );
    assert_eq!(refusal(|_| Reply::Silent).await.0, "registry_too_slow");
}

#[tokio::test]
async fn a_server_that_always_brings_a_little_is_stopped_by_the_deadline() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let server = Server::serve(&repository.files).await;
    let mut settings = settings(vec![server.mirror()], dir.path());
    settings.artifact_deadline = Duration::from_millis(300);
    settings.attempts_max = u32::MAX;
    let client = RegistryClient::open(settings, repository.root()).unwrap();
    let view = client.update(now()).await.unwrap();
    server.behave(|request| match request.path.contains("vmlinuz") {
        true => Reply::Cut(1),
        false => Reply::Good,
    });
    let error = fetch(&client, &view, &release.id()).await.unwrap_err();
    let FetchError::Download(error) = error else {
        panic!("{error}")
    };
    assert!(matches!(*error, DownloadError::Deadline { .. }), "{error}");
    assert_eq!(error.code(), "registry_too_slow");
}

#[tokio::test]
async fn a_decompression_bomb_is_not_unpacked() {
    let (code, server, _dir) = refusal(|_| Reply::Header("Content-Encoding: gzip")).await;
    assert_eq!(code, "registry_encoded");
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.accept_encoding.as_deref() == Some("identity"))
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere =
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
    let (code, ..) = refusal(move |_| Reply::Raw(elsewhere.clone())).await;
    assert_eq!(code, "registry_unreachable");
}

#[tokio::test]
async fn a_wrong_content_range_is_refused() {
    let size = Release::new("a").kernel.len();
    for range in [
        format!("bytes 0-{}/{size}", size - 1),
        format!("bytes 101-{}/{size}", size - 1),
        format!("bytes 100-{}/{}", size, size + 1),
        format!("bytes 100-200/{size}"),
        format!("bytes 100-{}/*", size - 1),
        "none".to_owned(),
    ] {
        let (code, ..) = refusal(move |request| match request.range {
            None => Reply::Cut(100),
            Some(_) => Reply::Raw(
                format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nConnection: close\r\n\r\nxxxx"
                )
                .into(),
            ),
        })
        .await;
        assert_eq!(code, "registry_wrong_range");
    }
}

#[tokio::test]
async fn a_part_where_nobody_asked_for_one_is_refused() {
    let answer =
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/4\r\nConnection: close\r\n\r\nxxxx"
            .to_vec();
    let (code, ..) = refusal(move |_| Reply::Raw(answer.clone())).await;
    assert_eq!(code, "registry_wrong_range");
}

#[tokio::test]
async fn garbage_in_the_place_of_http_is_an_error() {
    let (code, ..) = refusal(|_| Reply::Raw(b"\x16\x03\x01garbage\r\n\r\n".to_vec())).await;
    assert_eq!(code, "registry_unreachable");
}

#[tokio::test]
async fn an_evil_mirror_beside_a_good_one_is_named_and_left() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let evil = Server::evil(&repository.files, |request| {
        match request.path.contains("vmlinuz") {
            true => Reply::Instead(vec![b'x'; Release::new("a").kernel.len()]),
            false => Reply::Good,
        }
    })
    .await;
    let good = Server::serve(&repository.files).await;
    let client = open(vec![evil.mirror(), good.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let fetched = fetch(&client, &view, &release.id()).await.unwrap();
    assert_eq!(content(&fetched, ArtifactKind::Kernel), release.kernel);
    assert_eq!(evil.requests_for(&release.path(ArtifactKind::Kernel)).len(), 1);
}

#[tokio::test]
async fn a_poisoned_beginning_is_found_and_nobody_good_is_blamed() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let kernel = release.path(ArtifactKind::Kernel);
    // Sends a wrong beginning and breaks off.
    let evil = Server::evil(&repository.files, |request| {
        match request.path.contains("vmlinuz") {
            true => {
                let size = Release::new("a").kernel.len();
                Reply::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\nxxxx").into())
            }
            false => Reply::Good,
        }
    })
    .await;
    let good = Server::serve(&repository.files).await;
    let client = open(vec![evil.mirror(), good.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let fetched = fetch(&client, &view, &release.id()).await.unwrap();
    assert_eq!(content(&fetched, ArtifactKind::Kernel), release.kernel);
    let ranges: Vec<_> = good
        .requests_for(&kernel)
        .into_iter()
        .map(|request| request.range)
        .collect();
    assert_eq!(ranges, [Some(4), None], "the rest first, then all of it");
}

#[tokio::test]
async fn kernel_of_a_with_initramfs_of_b_is_refused_though_both_are_signed() {
    let (a, b) = (Release::new("a"), Release::new("b"));
    let mut evil = Repository::with(&[&a, &b]);
    let name = |release: &Release| release.id().initramfs.artifact_name().to_string();
    let other = evil.targets[&name(&b)].clone();
    evil.targets.insert(name(&a), other);
    evil.publish();
    let error = release_refusal(&evil).await;
    assert_eq!(error.code(), "registry_mixed");
    assert!(error.to_string().contains(&name(&a)), "{error}");
}

#[tokio::test]
async fn the_manifest_of_another_release_is_refused() {
    let (a, b) = (Release::new("a"), Release::new("b"));
    let mut evil = Repository::with(&[&a, &b]);
    evil.add_target(&manifest_target(&a.id()), &b.signed_by(RELEASE_KEY));
    evil.publish();
    assert!(matches!(
        release_refusal(&evil).await,
        FetchError::OtherRelease { .. }
    ));
}

#[tokio::test]
async fn the_targets_key_alone_installs_nothing() {
    let mut evil = Repository::with(&[]);
    let release = Release::new("a");
    evil.add_release(&release);
    evil.add_target(&manifest_target(&release.id()), &release.signed_by(FOREIGN_KEY));
    evil.publish();
    assert_eq!(release_refusal(&evil).await.code(), "manifest_unknown_key");
}

#[tokio::test]
async fn a_missing_part_is_named() {
    let release = Release::new("a");
    let mut evil = Repository::with(&[&release]);
    evil.targets
        .remove(&release.id().kernel.artifact_name().to_string());
    evil.publish();
    let error = release_refusal(&evil).await;
    assert_eq!(error.code(), "release_incomplete");
    assert!(error.to_string().contains("vmlinuz-plfm-6.1.50-a"), "{error}");
}

#[tokio::test]
async fn a_part_that_no_mirror_has_is_an_error() {
    let release = Release::new("a");
    let mut evil = Repository::with(&[&release]);
    evil.files.remove(&release.path(ArtifactKind::Kernel));
    assert_eq!(release_refusal(&evil).await.code(), "registry_file_missing");
}

#[tokio::test]
async fn a_manifest_that_claims_to_be_endless_is_not_asked_for() {
    let release = Release::new("a");
    let mut evil = Repository::with(&[&release]);
    evil.targets[&manifest_target(&release.id())]["length"] = json!(1_u64 << 40);
    evil.publish();
    assert_eq!(release_refusal(&evil).await.code(), "manifest_too_long");
}

#[tokio::test]
async fn a_staging_manifest_is_refused_in_production() {
    let release = Release::new("a").with("/channel", json!("staging"));
    assert_eq!(
        release_refusal(&Repository::with(&[&release])).await.code(),
        "manifest_wrong_channel"
    );
}

#[tokio::test]
async fn a_release_of_a_revoked_key_is_refused_once_the_keyring_says_so() {
    let mut repository = Repository::with(&[&Release::new("a")]);
    let mut keyring: Keyring = keyring();
    let revocation = Revocation {
        at: now(),
        reason: "stolen".into(),
    };
    keyring
        .revoke(key(RELEASE_KEY).public_key().id(), revocation)
        .unwrap();
    repository.add_keyring(2, &keyring, &ROOT_KEYS[..2]);
    repository.publish();
    assert_eq!(release_refusal(&repository).await.code(), "manifest_revoked_key");
}

#[tokio::test]
async fn a_view_that_is_no_longer_fresh_is_not_acted_on() {
    let (dir, release) = (directory(), Release::new("a"));
    let mut repository = Repository::with(&[]);
    repository.timestamp_expires = now() + jiff::SignedDuration::from_secs(1);
    repository.add_release(&release);
    repository.publish();
    let server = Server::serve(&repository.files).await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client
        .update(now() - jiff::SignedDuration::from_hours(1))
        .await
        .unwrap();
    fetch(&client, &view, &release.id()).await.unwrap();
    let mut request_policy = policy(now());
    request_policy.at = now() + jiff::SignedDuration::from_secs(1);
    let keyring = view.keyring().unwrap().keyring().clone();
    let request = plfm_registry::fetch::FetchRequest {
        release: &release.id(),
        keyring: &keyring,
        policy: &request_policy,
        is_here: &|_| false,
        progress: &|_| {},
    };
    let error = client.fetch_release(&view, request).await.unwrap_err();
    assert!(matches!(error, FetchError::StaleView { .. }), "{error}");
}

#[tokio::test]
async fn each_mirrors_fault_is_in_the_error() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let (first, second) = (
        Server::serve(&repository.files).await,
        Server::serve(&repository.files).await,
    );
    let client = open(
        vec![first.mirror(), second.mirror()],
        dir.path(),
        repository.root(),
    );
    let view = client.update(now()).await.unwrap();
    first.behave(|_| Reply::Header("Content-Encoding: br"));
    second.publish(&FileMap::new());
    let error = fetch(&client, &view, &release.id()).await.unwrap_err();
    let FetchError::Download(error) = error else {
        panic!("{error}")
    };
    let DownloadError::Mirrors { failures, .. } = &*error else {
        panic!("{error}")
    };
    assert_eq!(failures.len(), 2);
    assert_eq!(failures[0].mirror, first.mirror());
    assert!(
        matches!(&failures[1].fault, DownloadFault::Read(fault) if fault.code() == "registry_file_missing")
    );
}
