use std::sync::Arc;

use jiff::SignedDuration;
use object_store::memory::InMemory;
use plfm_registry::refresh::RefreshWhat;
use plfm_registry::releases::REASON_BYTES_MAX;
use plfm_registry::{RegistryError, RoleName, Store};

use crate::fixture::{RELEASE_KEY, Signer, empty, key, release, release_id, release_of, with_one};
use crate::reader::read;

#[tokio::test]
async fn what_is_published_is_what_a_host_reads() {
    let signer = Signer::new();
    let objects = empty(&signer).await;
    assert!(read(&objects, &signer.root()).await.unwrap().files.is_empty());
    let mut repository = signer.open(objects.clone()).await.unwrap();
    let published = repository
        .publish(&release("a", "a"), &signer.signing())
        .await
        .unwrap();
    assert_eq!((published.added.len(), published.kept.len()), (4, 0));
    let view = read(&objects, &signer.root()).await.unwrap();
    let expected: Vec<_> = published
        .added
        .iter()
        .map(|target| (target.name.clone(), target.sha256))
        .collect();
    assert_eq!(view.files, expected.into_iter().collect());
    assert_eq!(view.keyring, signer.keyring());
    let listing = repository.listing(signer.now).await.unwrap();
    assert_eq!(listing.releases[0].release.id, release_id("a", "a"));
    assert_eq!(
        listing.releases[0].release.key_id,
        key(RELEASE_KEY).public_key().id()
    );
    assert!(listing.roles.iter().all(|role| !role.expired));
}

#[tokio::test]
async fn publishing_the_same_bytes_again_changes_nothing() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let mut repository = signer.open(objects.clone()).await.unwrap();
    let again = repository
        .publish(&release("a", "a"), &signer.signing())
        .await
        .unwrap();
    assert_eq!((again.added.len(), again.kept.len()), (0, 4));
    assert_eq!(again.targets_version, again.targets_version_before);
}

#[tokio::test]
async fn a_name_never_stands_for_other_bytes_not_even_after_a_yank() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let mut repository = signer.open(objects.clone()).await.unwrap();
    let other = release_of("a", b"other kernel".to_vec(), "b", RELEASE_KEY);
    let before = read(&objects, &signer.root()).await.unwrap();
    let error = repository.publish(&other, &signer.signing()).await.unwrap_err();
    assert_eq!(error.code(), "registry_name_taken");
    assert_eq!(read(&objects, &signer.root()).await.unwrap(), before);
    repository
        .yank(&release_id("a", "a"), "panics", &signer.signing())
        .await
        .unwrap();
    let error = repository.publish(&other, &signer.signing()).await.unwrap_err();
    assert_eq!(error.code(), "registry_name_taken");
    let error = repository
        .publish(&release("a", "a"), &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "release_yanked");
}

#[tokio::test]
async fn a_release_of_a_key_that_the_keyring_does_not_trust_is_refused() {
    let signer = Signer::new();
    let objects = empty(&signer).await;
    let mut repository = signer.open(objects).await.unwrap();
    let foreign = release_of("a", b"kernel".to_vec(), "a", 99);
    let error = repository.publish(&foreign, &signer.signing()).await.unwrap_err();
    assert_eq!(error.code(), "manifest_unknown_key");
    let mut swapped = release("a", "a");
    swapped.kernel = b"another kernel".to_vec();
    let error = repository.publish(&swapped, &signer.signing()).await.unwrap_err();
    assert_eq!(error.code(), "artifact_digest_mismatch");
}

#[tokio::test]
async fn yanking_leaves_what_another_release_shares_and_is_remembered() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let mut repository = signer.open(objects.clone()).await.unwrap();
    repository
        .publish(&release("a", "b"), &signer.signing())
        .await
        .unwrap();
    let id = release_id("a", "a");
    let yanked = repository.yank(&id, "panics", &signer.signing()).await.unwrap();
    assert_eq!(yanked.shared, ["vmlinuz-plfm-6.1.50-a"]);
    assert_eq!(yanked.removed.len(), 3);
    let view = read(&objects, &signer.root()).await.unwrap();
    assert!(view.files.contains_key("vmlinuz-plfm-6.1.50-a"));
    assert!(!view.files.contains_key("initramfs-plfm-guestinit-1.0.0-a.img"));
    // Read anew: the memory is in the repository.
    let mut repository = signer.open(objects).await.unwrap();
    assert_eq!(repository.yanked()[0].reason, "panics");
    assert_eq!(repository.releases().len(), 1);
    let again = repository
        .yank(&id, "another reason", &signer.signing())
        .await
        .unwrap();
    assert_eq!((again.already, again.reason.as_str()), (true, "panics"));
    let error = repository
        .yank(&release_id("z", "z"), "x", &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "no_such_release");
}

#[tokio::test]
async fn a_missing_or_rotten_file_is_healed_by_publishing_again() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let store = Store::on(objects.clone());
    let files = store.list("targets").await.unwrap();
    let kernel = files.iter().find(|file| file.name.contains("vmlinuz")).unwrap();
    store.put(&kernel.name, b"rot").await.unwrap();
    assert!(read(&objects, &signer.root()).await.is_err());
    let mut repository = signer.open(objects.clone()).await.unwrap();
    repository
        .publish(&release("a", "a"), &signer.signing())
        .await
        .unwrap();
    read(&objects, &signer.root()).await.unwrap();
}

#[tokio::test]
async fn refresh_signs_what_is_due_and_nothing_else() {
    let mut signer = Signer::new();
    let objects = with_one(&signer).await;
    let mut repository = signer.open(objects.clone()).await.unwrap();
    let fresh = repository
        .refresh(RefreshWhat::Due, &signer.signing())
        .await
        .unwrap();
    assert_eq!(fresh.signed, []);
    assert_eq!(fresh.next_due, signer.now + SignedDuration::from_hours(84));
    signer.now += SignedDuration::from_hours(84);
    let refreshed = repository
        .refresh(RefreshWhat::Due, &signer.signing())
        .await
        .unwrap();
    assert_eq!(refreshed.signed, [RoleName::Timestamp]);
    signer.now += SignedDuration::from_hours(84);
    // A cron job without the targets key says what it could not do.
    let targets = std::mem::take(&mut signer.keys.targets);
    let refreshed = repository
        .refresh(RefreshWhat::Due, &signer.signing())
        .await
        .unwrap();
    assert_eq!(refreshed.signed, [RoleName::Snapshot, RoleName::Timestamp]);
    assert_eq!(refreshed.due_without_key, [RoleName::Targets]);
    signer.keys.targets = targets;
    let refreshed = repository
        .refresh(RefreshWhat::Due, &signer.signing())
        .await
        .unwrap();
    assert_eq!(refreshed.signed, RoleName::ONLINE);
    read(&objects, &Signer::new().root()).await.unwrap();
}

#[tokio::test]
async fn a_repository_whose_root_has_expired_is_not_signed_on() {
    let mut signer = Signer::new();
    let objects = with_one(&signer).await;
    let mut repository = signer.open(objects).await.unwrap();
    signer.now += SignedDuration::from_hours(24 * 365);
    let error = repository
        .refresh(RefreshWhat::Due, &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_root_expired");
    let error = repository
        .publish(&release("b", "b"), &signer.signing())
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::RootExpired { .. }));
}

#[tokio::test]
async fn foreign_keys_sign_nothing() {
    let mut signer = Signer::new();
    let objects = with_one(&signer).await;
    let root = signer.root();
    let before = read(&objects, &root).await.unwrap();
    let mut repository = signer.open(objects.clone()).await.unwrap();
    signer.keys.timestamp = vec![key(77)];
    let error = repository
        .publish(&release("b", "b"), &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_wrong_keys");
    assert_eq!(read(&objects, &root).await.unwrap(), before);
}

#[tokio::test]
async fn a_publisher_is_not_led_by_a_root_that_it_does_not_trust() {
    let signer = Signer::new();
    let objects = Arc::new(InMemory::new());
    // Somebody who can write the store made it anew, with the publisher's online keys in a root of his own.
    let evil = crate::fixture::keys([66, 67]);
    let root = plfm_registry::init::first_root(
        &evil,
        crate::fixture::two(),
        &signer.keys,
        &signer.lifetimes,
        signer.now,
    )
    .unwrap();
    let keyring = signer.keyring();
    let store = Store::on(objects.clone());
    let mut made = plfm_registry::init::init(store, &root, &evil, &keyring, &signer.signing())
        .await
        .unwrap();
    made.rotate_root(&evil, None, &signer.signing()).await.unwrap();
    let error = signer.open(objects).await.unwrap_err();
    assert_eq!(error.code(), "registry_bad_signature");
}

#[tokio::test]
async fn a_reason_has_so_many_bytes_and_no_more() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let mut repository = signer.open(objects).await.unwrap();
    let long = "x".repeat(REASON_BYTES_MAX + 1);
    let id = release_id("a", "a");
    let error = repository.yank(&id, &long, &signer.signing()).await.unwrap_err();
    assert_eq!(error.code(), "registry_limit_reached");
    repository.yank(&id, &long[1..], &signer.signing()).await.unwrap();
}

#[tokio::test]
async fn a_directory_is_a_repository_too() {
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path().to_str().unwrap(), []).unwrap();
    let mut repository = signer.init(open()).await.unwrap();
    repository
        .publish(&release("a", "a"), &signer.signing())
        .await
        .unwrap();
    let error = plfm_registry::Repository::open(open(), &signer.root())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_conflict");
    drop(repository);
    let repository = plfm_registry::Repository::open(open(), &signer.root())
        .await
        .unwrap();
    assert_eq!(repository.releases().len(), 1);
    drop(repository);
    let error = signer.init(open()).await.unwrap_err();
    assert_eq!(error.code(), "registry_exists");
}
