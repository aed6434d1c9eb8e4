//! Evil metadata: a registry, a mirror, or a holder of stolen keys.

use std::time::Duration;

use plfm_registry::fetch::{MetadataFault, RegistryClient, UpdateError};
use plfm_registry::layout::manifest_target;
use plfm_release::{Keyring, Sha256Digest};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fetch_fixtures::*;
use crate::fetch_server::{Reply, Server};

/// The highest number that strict JSON has (2^53 - 1).
const HIGHEST: u64 = (1 << 53) - 1;

/// A host that trusts the repository as it was, and a server whose files can be replaced.
struct Host {
    dir: TempDir,
    server: Server,
    client: RegistryClient,
}

impl Host {
    /// A host that has updated once.
    async fn updated(repository: &Repository) -> Self {
        let host = Self::new(repository).await;
        host.client.update(now()).await.unwrap();
        host
    }

    async fn new(repository: &Repository) -> Self {
        let (dir, server) = (directory(), Server::serve(&repository.files).await);
        let client = open(vec![server.mirror()], dir.path(), repository.root());
        Self { dir, server, client }
    }

    /// The code and text of what an update from `files` is refused with; what was trusted must not change.
    async fn refusal(&self, files: &FileMap) -> (String, String) {
        self.server.publish(files);
        let error = self.client.update(now()).await.unwrap_err();
        assert_nothing_unverified(self.dir.path());
        (error.code().to_owned(), error.to_string())
    }

    async fn code(&self, files: &FileMap) -> String {
        self.refusal(files).await.0
    }
}

fn repository() -> Repository {
    Repository::with(&[&Release::new("a")])
}

fn next(repository: &Repository) -> Repository {
    let mut next = repository.clone();
    next.add_release(&Release::new("b"));
    next.publish();
    next
}

#[tokio::test]
async fn metadata_of_a_foreign_key_is_refused() {
    for file in [
        "metadata/timestamp.json",
        "metadata/1.snapshot.json",
        "metadata/1.targets.json",
    ] {
        let mut evil = repository();
        evil.forge(file, &[FOREIGN_KEY], |_| {});
        // What is above it is put right, with good keys, as far as it has digests.
        if file.ends_with("targets.json") {
            let metas = json!({"targets.json": meta(1, &evil.files[file])});
            evil.put_snapshot(&metas);
        } else if file.ends_with("snapshot.json") {
            let metas = json!({"snapshot.json": meta(1, &evil.files[file])});
            evil.put_timestamp(1, &metas);
        }
        let host = Host::new(&evil).await;
        assert_eq!(host.code(&evil.files).await, "registry_bad_signature", "{file}");
    }
}

#[tokio::test]
async fn metadata_that_was_changed_without_being_signed_anew_is_refused() {
    let mut evil = repository();
    let mut document: Value = serde_json::from_slice(&evil.files["metadata/timestamp.json"]).unwrap();
    document["signed"]["version"] = json!(100);
    evil.files.insert(
        "metadata/timestamp.json".into(),
        serde_json::to_vec(&document).unwrap(),
    );
    assert_eq!(
        Host::new(&evil).await.code(&evil.files).await,
        "registry_bad_signature"
    );
}

#[tokio::test]
async fn a_root_below_the_threshold_is_refused() {
    let mut evil = repository();
    evil.publish_root(&ROOT_KEYS[..1]);
    let (code, text) = Host::updated(&repository()).await.refusal(&evil.files).await;
    assert_eq!(code, "registry_bad_signature");
    assert!(text.contains("1 good signatures, 2 needed"), "{text}");
}

#[tokio::test]
async fn one_signature_is_not_counted_twice() {
    let mut evil = repository();
    evil.publish_root(&[ROOT_KEYS[0], ROOT_KEYS[0]]);
    assert_eq!(
        Host::updated(&repository()).await.code(&evil.files).await,
        "registry_bad_signature"
    );
}

#[tokio::test]
async fn a_root_that_only_its_own_new_keys_signed_is_refused() {
    let mut evil = repository();
    evil.root_keys = vec![FOREIGN_KEY, 98];
    evil.publish_root(&[FOREIGN_KEY, 98]);
    assert_eq!(
        Host::updated(&repository()).await.code(&evil.files).await,
        "registry_bad_signature"
    );
}

#[tokio::test]
async fn the_whole_repository_is_not_rolled_back() {
    let old = repository();
    let host = Host::updated(&next(&old)).await;
    let (code, text) = host.refusal(&old.files).await;
    assert_eq!(code, "registry_rollback");
    assert!(
        text.contains("timestamp version 1; version 2 was trusted"),
        "{text}"
    );
}

#[tokio::test]
async fn the_rollback_floor_survives_a_restart() {
    let old = repository();
    let Host { dir, server, client } = Host::updated(&next(&old)).await;
    drop(client);
    server.publish(&old.files);
    let client = open(vec![server.mirror()], dir.path(), old.root());
    assert_eq!(
        client.update(now()).await.unwrap_err().code(),
        "registry_rollback"
    );
}

#[tokio::test]
async fn a_stolen_timestamp_key_brings_back_no_old_snapshot() {
    let old = repository();
    let host = Host::updated(&next(&old)).await;
    let mut evil = old.clone();
    let metas = json!({"snapshot.json": meta(1, &old.files["metadata/1.snapshot.json"])});
    evil.put_timestamp(100, &metas);
    let (code, text) = host.refusal(&evil.files).await;
    assert_eq!(code, "registry_rollback");
    assert!(text.contains("snapshot version 1; version 2"), "{text}");
}

#[tokio::test]
async fn a_stolen_timestamp_key_freezes_until_it_runs_out_with_the_snapshot_and_no_longer() {
    let frozen = repository();
    let host = Host::updated(&frozen).await;
    let mut evil = frozen.clone();
    evil.timestamp_expires = days_later(1000);
    let metas = json!({"snapshot.json": meta(1, &frozen.files["metadata/1.snapshot.json"])});
    evil.put_timestamp(2, &metas);
    host.server.publish(&evil.files);
    host.client.update(days_later(13)).await.unwrap();
    let error = host.client.update(days_later(15)).await.unwrap_err();
    assert_eq!(error.code(), "registry_frozen", "{error}");
}

#[tokio::test]
async fn stolen_online_keys_bring_back_no_old_targets() {
    let old = repository();
    let host = Host::updated(&next(&old)).await;
    let mut evil = old.clone();
    evil.version = 100;
    let targets = old.files["metadata/1.targets.json"].clone();
    evil.put_snapshot(&json!({"targets.json": meta(1, &targets)}));
    let (code, text) = host.refusal(&evil.files).await;
    assert_eq!(code, "registry_rollback");
    assert!(text.contains("targets.json version 1; version 2"), "{text}");
}

#[tokio::test]
async fn a_file_that_a_snapshot_stopped_listing_is_noticed() {
    let mut old = repository();
    let targets = old.files["metadata/1.targets.json"].clone();
    old.put_snapshot(&json!({"targets.json": meta(1, &targets), "more.json": {"version": 1}}));
    let host = Host::updated(&old).await;
    assert_eq!(host.code(&next(&old).files).await, "registry_rollback");
}

#[tokio::test]
async fn an_old_keyring_is_not_brought_back_even_by_the_targets_key() {
    let mut repository = repository();
    let first = repository.clone();
    repository.add_keyring(2, &Keyring::default(), &ROOT_KEYS[1..]);
    repository.publish();
    let host = Host::updated(&repository).await;
    // The old keyring in new, well signed metadata.
    repository.targets = first.targets.clone();
    repository.publish();
    let (code, text) = host.refusal(&repository.files).await;
    assert_eq!(code, "registry_rollback");
    assert!(
        text.contains("keyring version 1; version 2 was trusted"),
        "{text}"
    );
    assert!(host.client.trusted_keyring().unwrap().keyring().keys().is_empty());
}

#[tokio::test]
async fn a_keyring_that_the_root_keys_did_not_sign_is_refused() {
    let mut evil = repository();
    evil.add_keyring(2, &keyring_of(&[FOREIGN_KEY]), &[TARGETS_KEY, ROOT_KEYS[0]]);
    evil.publish();
    assert_eq!(
        Host::updated(&repository()).await.code(&evil.files).await,
        "keyring_bad_signature"
    );
}

#[tokio::test]
async fn a_keyring_that_disappears_is_a_rollback() {
    let mut evil = repository();
    evil.targets.remove("keyring.json");
    evil.publish();
    assert_eq!(
        Host::updated(&repository()).await.code(&evil.files).await,
        "registry_rollback"
    );
}

#[tokio::test]
async fn metadata_that_a_mirror_holds_back_is_named_a_freeze_once_it_expired() {
    let host = Host::updated(&repository()).await;
    host.client.update(days_later(6)).await.unwrap();
    let error = host.client.update(days_later(8)).await.unwrap_err();
    assert_eq!(error.code(), "registry_frozen");
    assert!(
        error
            .to_string()
            .contains("timestamp version 1, which expired at 2026-01-22"),
        "{error}"
    );
}

#[tokio::test]
async fn metadata_that_is_new_and_expired_is_named_expired() {
    let mut late = next(&repository());
    let host = Host::updated(&repository()).await;
    late.timestamp_expires = days_later(-1);
    let metas = json!({"snapshot.json": meta(2, &late.files["metadata/2.snapshot.json"])});
    late.put_timestamp(2, &metas);
    assert_eq!(host.code(&late.files).await, "registry_expired");
    // And it moved no floor.
    host.server.publish(&repository().files);
    host.client.update(now()).await.unwrap();
}

#[tokio::test]
async fn each_role_expires() {
    let change: [fn(&mut Repository); 2] = [
        |it| it.root_expires = days_later(-1),
        |it| it.targets_expires = days_later(-1),
    ];
    for (change, role) in change.into_iter().zip(["root", "snapshot"]) {
        let mut late = repository();
        change(&mut late);
        late.publish_root(&ROOT_KEYS);
        late.publish();
        let (code, text) = Host::new(&late).await.refusal(&late.files).await;
        assert_eq!(code, "registry_expired");
        assert!(text.contains(&format!("the {role} metadata expired")), "{text}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_revive_what_expired() {
    let host = Host::updated(&repository()).await;
    host.client.update(days_later(6)).await.unwrap();
    let error = host.client.update(days_later(-300)).await.unwrap_err();
    let UpdateError::ClockBehind { now: told, passed } = error else {
        panic!("{error}")
    };
    assert_eq!((told, passed), (days_later(-300), days_later(6)));
    let error = host
        .client
        .update(time("1970-01-01T00:00:00Z"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "clock_behind");
}

#[tokio::test]
async fn a_clock_before_the_build_is_told_apart_without_asking_anybody() {
    let host = Host::new(&repository()).await;
    let error = host
        .client
        .update(time("2025-12-31T00:00:00Z"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "clock_behind");
    assert!(host.server.requests().is_empty());
}

#[tokio::test]
async fn a_clock_a_year_ahead_is_suspect_if_the_server_says_so_and_accepts_nothing() {
    let host = Host::new(&repository()).await;
    host.server
        .behave(|_| Reply::Header("Date: Thu, 15 Jan 2026 12:00:00 GMT"));
    let error = host.client.update(days_later(366)).await.unwrap_err();
    assert_eq!(error.code(), "clock_suspect");
    assert!(error.to_string().contains("NTP"), "{error}");
    assert!(host.client.updated_at().is_none());
    // Put right, all is well: nothing of the wrong time was kept.
    host.client.update(now()).await.unwrap();
}

#[tokio::test]
async fn a_fast_forward_is_recovered_from_by_rotating_the_keys() {
    let host = Host::updated(&repository()).await;
    // Thieves of the online keys raise all versions as far as they go.
    let mut evil = repository();
    evil.version = HIGHEST - 1;
    evil.publish();
    host.server.publish(&evil.files);
    assert_eq!(host.client.update(now()).await.unwrap().version(), HIGHEST);
    assert_eq!(host.code(&next(&repository()).files).await, "registry_rollback");
    // The owners rotate them and go on from where they were.
    let mut recovered = repository();
    (
        recovered.timestamp_key,
        recovered.snapshot_key,
        recovered.targets_key,
    ) = (43, 42, 41);
    recovered.publish_root(&ROOT_KEYS[..2]);
    recovered.publish();
    host.server.publish(&recovered.files);
    assert_eq!(host.client.update(now()).await.unwrap().version(), 2);
}

#[tokio::test]
async fn a_new_root_stays_known_when_the_rest_of_the_update_fails() {
    let host = Host::updated(&repository()).await;
    let mut rotated = repository();
    rotated.timestamp_key = 43;
    rotated.publish_root(&ROOT_KEYS[..2]);
    rotated.publish();
    host.server.publish(&rotated.files);
    host.server
        .behave(|request| match request.path.ends_with("timestamp.json") {
            true => Reply::Cut(3),
            false => Reply::Good,
        });
    assert_eq!(
        host.client.update(now()).await.unwrap_err().code(),
        "registry_unreachable"
    );
    // The stolen old key is worth nothing any more, though the mirror now hides the new root.
    host.server.behave(|_| Reply::Good);
    assert_eq!(
        host.code(&next(&repository()).files).await,
        "registry_bad_signature"
    );
}

#[tokio::test]
async fn a_missing_root_is_named_a_gap() {
    let host = Host::updated(&repository()).await;
    let mut rotated = repository();
    (rotated.timestamp_key, rotated.snapshot_key) = (43, 42);
    rotated.publish_root(&ROOT_KEYS[..2]);
    rotated.publish_root(&ROOT_KEYS[..2]);
    rotated.publish();
    rotated.files.remove("metadata/2.root.json");
    let (code, text) = host.refusal(&rotated.files).await;
    assert_eq!(code, "registry_root_gap");
    assert!(text.contains("root version 3"), "{text}");
}

#[tokio::test]
async fn a_root_under_the_name_of_another_version_is_refused() {
    let host = Host::updated(&repository()).await;
    let mut evil = repository();
    evil.publish_root(&ROOT_KEYS[..2]);
    evil.publish_root(&ROOT_KEYS[..2]);
    let third = evil.files["metadata/3.root.json"].clone();
    evil.files.insert("metadata/2.root.json".into(), third);
    assert_eq!(host.code(&evil.files).await, "registry_root_gap");
}

#[tokio::test]
async fn an_old_root_under_a_new_name_is_a_rollback() {
    let host = Host::updated(&repository()).await;
    let mut evil = repository();
    let first = evil.files["metadata/1.root.json"].clone();
    evil.files.insert("metadata/2.root.json".into(), first);
    assert_eq!(host.code(&evil.files).await, "registry_rollback");
}

#[tokio::test]
async fn files_of_two_repository_states_do_not_mix() {
    let (old, new) = (repository(), next(&repository()));
    // The new snapshot with other targets, both well signed.
    let mut mixed = new.clone();
    mixed.files.insert(
        "metadata/2.targets.json".into(),
        old.files["metadata/1.targets.json"].clone(),
    );
    assert_eq!(Host::new(&old).await.code(&mixed.files).await, "registry_mixed");
    let mut mixed = new.clone();
    mixed.files.insert(
        "metadata/2.snapshot.json".into(),
        old.files["metadata/1.snapshot.json"].clone(),
    );
    assert_eq!(Host::new(&old).await.code(&mixed.files).await, "registry_mixed");
    // Without digests in the metadata above, the version still tells.
    let mut mixed = old.clone();
    mixed.version = 2;
    mixed.put_targets(&old.files["metadata/1.targets.json"]);
    mixed.put_snapshot(&json!({"targets.json": {"version": 2}}));
    assert_eq!(Host::new(&old).await.code(&mixed.files).await, "registry_mixed");
}

#[tokio::test]
async fn endless_metadata_is_cut_at_the_limit_of_its_kind() {
    for (file, limit) in [
        (
            "metadata/timestamp.json",
            plfm_registry::fetch::TIMESTAMP_BYTES_MAX,
        ),
        ("metadata/2.root.json", plfm_registry::fetch::ROOT_BYTES_MAX),
        (
            "metadata/1.snapshot.json",
            plfm_registry::fetch::SNAPSHOT_BYTES_MAX,
        ),
    ] {
        let host = Host::new(&repository()).await;
        host.server.behave(move |request| match request.path == file {
            true => Reply::Endless,
            false => Reply::Good,
        });
        let error = host.client.update(now()).await.unwrap_err();
        assert_eq!(error.code(), "registry_too_large", "{error}");
        assert!(error.to_string().contains(&limit.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_stolen_timestamp_key_announces_no_endless_snapshot() {
    let mut evil = repository();
    let host = Host::new(&evil).await;
    evil.put_timestamp(2, &json!({"snapshot.json": {"version": 1, "length": HIGHEST}}));
    host.server.publish(&evil.files);
    host.server
        .behave(|request| match request.path.ends_with("snapshot.json") {
            true => Reply::Endless,
            false => Reply::Good,
        });
    assert_eq!(
        host.client.update(now()).await.unwrap_err().code(),
        "registry_too_large"
    );
}

#[tokio::test]
async fn more_targets_than_a_repository_may_have_are_refused() {
    let mut evil = repository();
    let target = json!({"length": 1, "hashes": {"sha256": Sha256Digest::of(b"x")}});
    for number in 0..=plfm_registry::fetch::TARGETS_MAX {
        evil.targets.insert(format!("t{number}"), target.clone());
    }
    evil.publish();
    assert_eq!(
        Host::new(&evil).await.code(&evil.files).await,
        "registry_too_large"
    );
}

#[tokio::test]
async fn slow_metadata_is_given_up() {
    for reply in [Reply::Silent, Reply::Trickle(Duration::from_millis(5))] {
        let (dir, repository) = (directory(), repository());
        let server = Server::evil(&repository.files, move |_| reply.clone()).await;
        let mut settings = settings(vec![server.mirror()], dir.path());
        settings.idle_timeout = Duration::from_millis(100);
        settings.rate_min.window = Duration::from_millis(200);
        let client = RegistryClient::open(settings, repository.root()).unwrap();
        assert_eq!(
            client.update(now()).await.unwrap_err().code(),
            "registry_too_slow"
        );
    }
}

#[tokio::test]
async fn duplicate_members_and_floats_in_metadata_are_refused() {
    for (good, bad) in [
        ("\"version\":1", "\"version\":9,\"version\":1"),
        ("\"version\":1", "\"version\":1.0"),
        // Of two members of a map, the TUF client alone takes the last without a word.
        ("\"meta\":{", "\"meta\":{\"snapshot.json\":{\"version\":9},"),
    ] {
        let mut evil = repository();
        let text = String::from_utf8(evil.files["metadata/timestamp.json"].clone()).unwrap();
        let text = text.replacen(good, bad, 1);
        evil.files
            .insert("metadata/timestamp.json".into(), text.into_bytes());
        assert_eq!(
            Host::new(&evil).await.code(&evil.files).await,
            "registry_malformed",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_repository_of_another_layout_is_refused_before_its_files_are_asked_for() {
    let mut evil = repository();
    evil.root_version = 2;
    let mut root = evil.root_document();
    root["consistent_snapshot"] = json!(false);
    evil.files
        .insert("metadata/2.root.json".into(), sign_role(&root, &ROOT_KEYS));
    let host = Host::new(&evil).await;
    assert_eq!(host.code(&evil.files).await, "registry_malformed");
    assert!(host.server.requests_for("metadata/snapshot.json").is_empty());
}

#[tokio::test]
async fn delegations_are_not_followed() {
    let mut evil = repository();
    let mut targets = signed_part(&evil.files["metadata/1.targets.json"]);
    targets["delegations"] = json!({"keys": {}, "roles": [{
        "name": "../../evil", "keyids": [], "threshold": 1, "paths": ["*"], "terminating": false,
    }]});
    let targets = sign_role(&targets, &[TARGETS_KEY]);
    evil.put_targets(&targets);
    evil.put_snapshot(&json!({"targets.json": meta(1, &targets), "../../evil.json": {"version": 1}}));
    let host = Host::new(&evil).await;
    assert_eq!(host.code(&evil.files).await, "registry_malformed");
    assert!(
        host.server
            .requests()
            .iter()
            .all(|request| !request.path.contains("evil"))
    );
}

#[tokio::test]
async fn names_that_leave_a_directory_are_dead_letters() {
    let (mut evil, release) = (repository(), Release::new("a"));
    for name in [
        "../../evil",
        "/etc/evil",
        "a/../../evil",
        "manifest-../../evil--x.json",
    ] {
        evil.add_target(name, b"evil");
    }
    evil.publish();
    let host = Host::updated(&evil).await;
    let view = host.client.update(now()).await.unwrap();
    assert_eq!(view.releases().len(), 1);
    fetch(&host.client, &view, &release.id()).await.unwrap();
    assert!(
        host.server
            .requests()
            .iter()
            .all(|request| !request.path.contains("evil"))
    );
    assert_nothing_unverified(host.dir.path());
}

#[tokio::test]
async fn a_target_that_is_named_dot_dot_is_refused() {
    let mut evil = repository();
    evil.add_target("..", b"evil");
    evil.publish();
    assert_eq!(
        Host::new(&evil).await.code(&evil.files).await,
        "registry_malformed"
    );
}

#[tokio::test]
async fn an_evil_mirror_is_named_and_the_good_one_beside_it_is_taken() {
    let (old, new) = (repository(), next(&repository()));
    let dir = directory();
    let (evil, good) = (Server::serve(&old.files).await, Server::serve(&new.files).await);
    let client = open(vec![good.mirror()], dir.path(), old.root());
    client.update(now()).await.unwrap();
    drop(client);
    let client = open(vec![evil.mirror(), good.mirror()], dir.path(), old.root());
    let view = client.update(now()).await.unwrap();
    assert_eq!(view.version(), 2);
    let [failure] = view.failures() else {
        panic!("{view:?}")
    };
    assert_eq!(failure.mirror, evil.mirror());
    assert!(
        matches!(failure.fault, MetadataFault::Rollback { .. }),
        "{failure}"
    );
}

#[tokio::test]
async fn an_attack_is_reported_before_a_mirror_that_is_down() {
    let (old, new) = (repository(), next(&repository()));
    let dir = directory();
    let (evil, good) = (Server::serve(&old.files).await, Server::serve(&new.files).await);
    let down = good.mirror();
    open(vec![good.mirror()], dir.path(), old.root())
        .update(now())
        .await
        .unwrap();
    drop(good);
    let client = open(vec![down, evil.mirror()], dir.path(), old.root());
    let error = client.update(now()).await.unwrap_err();
    assert_eq!(error.code(), "registry_rollback");
    assert!(
        matches!(&error, UpdateError::Mirrors(failures) if failures.len() == 2),
        "{error}"
    );
}

#[tokio::test]
async fn a_release_that_was_withdrawn_from_the_targets_is_not_fetched() {
    let (mut repository, release) = (repository(), Release::new("a"));
    let host = Host::updated(&repository).await;
    repository.targets.remove(&manifest_target(&release.id()));
    repository.publish();
    host.server.publish(&repository.files);
    let view = host.client.update(now()).await.unwrap();
    let error = fetch(&host.client, &view, &release.id()).await.unwrap_err();
    assert_eq!(error.code(), "release_unknown");
}
