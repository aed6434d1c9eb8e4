//! A publisher that dies at any operation, before it or after it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use plfm_registry::keyring::KeyringChange;
use plfm_registry::refresh::RefreshWhat;
use plfm_registry::rotate::NewRootKeys;
use plfm_registry::{RegistryError, RoleName, Store};
use plfm_release::Revocation;

use crate::fault::{Faulty, Last};
use crate::fixture::{
    RELEASE_KEY, Signer, entry, key, keys, online, release, release_id, root_keys, two, with_one,
};
use crate::reader::{read, read_with_roots};

type Work = for<'a> fn(&'a Signer, Arc<dyn ObjectStore>) -> BoxFuture<'a, Result<(), RegistryError>>;

/// Runs `work` once as it is, and then with every operation as its last.
async fn survives(work: Work) {
    let signer = Signer::new();
    let root = signer.root();
    let base = with_one(&signer).await;
    let old = read(&base, &root).await.unwrap();
    let whole = Arc::new(base.fork());
    let counting = Faulty::new(whole.clone(), None);
    work(&signer, counting.clone()).await.unwrap();
    let new = read(&whole, &root).await.unwrap();
    let operations = counting.operations();
    assert!(operations > 3, "nothing was tried");

    for last in [Last::Lost, Last::Unanswered] {
        for stop in 0..operations {
            let at = format!("operation {stop}, {last:?}");
            let objects = Arc::new(base.fork());
            let faulty = Faulty::new(objects.clone(), Some((stop, last)));
            let died = work(&signer, faulty.clone()).await;
            assert!(faulty.has_stopped() && died.is_err(), "{at}: nobody died");
            let seen = read(&objects, &root)
                .await
                .unwrap_or_else(|error| panic!("{at}: {error}"));
            assert!(seen == old || seen == new, "{at}: neither old nor new: {seen:?}");
            // A host that looked for roots before all of this, and reads the rest now.
            read_with_roots(&objects, &root, 1)
                .await
                .unwrap_or_else(|error| panic!("{at}, root 1: {error}"));
            work(&signer, objects.clone())
                .await
                .unwrap_or_else(|error| panic!("{at}, again: {error}"));
            let seen = read(&objects, &root)
                .await
                .unwrap_or_else(|error| panic!("{at}, again: {error}"));
            assert_eq!(seen, new, "{at}, again");
        }
    }
}

#[tokio::test]
async fn a_publish_that_dies_leaves_the_repository_whole() {
    survives(|signer, objects| {
        Box::pin(async move {
            let mut repository = signer.open(objects).await?;
            repository
                .publish(&release("b", "b"), &signer.signing())
                .await
                .map(drop)
        })
    })
    .await;
}

#[tokio::test]
async fn a_yank_that_dies_leaves_the_repository_whole() {
    survives(|signer, objects| {
        Box::pin(async move {
            let mut repository = signer.open(objects).await?;
            repository
                .yank(&release_id("a", "a"), "x", &signer.signing())
                .await
                .map(drop)
        })
    })
    .await;
}

#[tokio::test]
async fn a_refresh_that_dies_leaves_the_repository_whole() {
    survives(|signer, objects| {
        Box::pin(async move {
            let mut repository = signer.open(objects).await?;
            let everything = RefreshWhat::Everything;
            repository.refresh(everything, &signer.signing()).await.map(drop)
        })
    })
    .await;
}

#[tokio::test]
async fn a_revocation_that_dies_leaves_the_repository_whole() {
    survives(|signer, objects| {
        Box::pin(async move {
            let mut repository = signer.open(objects).await?;
            let revocation = Revocation {
                at: signer.now,
                reason: "stolen".to_owned(),
            };
            let change = KeyringChange::Revoke(key(RELEASE_KEY).public_key().id(), revocation);
            let changed = repository
                .change_keyring(change, &root_keys(), &signer.signing())
                .await?;
            assert_eq!(changed.version, 2);
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn trusting_a_key_that_dies_leaves_the_repository_whole() {
    survives(|signer, objects| {
        Box::pin(async move {
            let mut repository = signer.open(objects).await?;
            let change = KeyringChange::Trust(Box::new(entry(51, signer.now)));
            repository
                .change_keyring(change, &root_keys()[..2], &signer.signing())
                .await
                .map(drop)
        })
    })
    .await;
}

#[tokio::test]
async fn a_root_rotation_that_dies_leaves_the_repository_whole() {
    survives(|signer, objects| {
        Box::pin(async move {
            let mut repository = signer.open(objects).await?;
            let new = keys([3, 4, 5]);
            // The keys of either side: a repeated call may meet the new root.
            let old = keys([1, 2, 3, 4]);
            let new = NewRootKeys {
                keys: &new,
                threshold: two(),
            };
            repository
                .rotate_root(&old, Some(new), &signer.signing())
                .await
                .map(drop)
        })
    })
    .await;
}

fn rotate(
    role: RoleName,
    signer: &Signer,
    objects: Arc<dyn ObjectStore>,
) -> BoxFuture<'_, Result<(), RegistryError>> {
    Box::pin(async move {
        let mut repository = signer.open(objects).await?;
        let signing = signer.signing();
        repository
            .rotate_key(role, key(40), &root_keys(), online(), &signing)
            .await
            .map(drop)
    })
}

#[tokio::test]
async fn a_rotation_of_each_online_key_that_dies_leaves_the_repository_whole() {
    survives(|signer, objects| rotate(RoleName::Targets, signer, objects)).await;
    survives(|signer, objects| rotate(RoleName::Snapshot, signer, objects)).await;
    survives(|signer, objects| rotate(RoleName::Timestamp, signer, objects)).await;
}

#[tokio::test]
async fn a_gc_that_dies_leaves_the_repository_whole() {
    survives(|signer, objects| {
        Box::pin(async move {
            let repository = signer.open(objects).await?;
            let later = signer.now + SignedDuration::from_hours(24 * 60);
            let garbage = repository.find_garbage(later, SignedDuration::ZERO).await?;
            repository.remove_garbage(&garbage).await.map(drop)
        })
    })
    .await;
}

#[tokio::test]
async fn an_init_that_dies_is_finished_by_the_next() {
    let signer = Signer::new();
    let counting = Faulty::new(Arc::new(InMemory::new()), None);
    signer.init(Store::on(counting.clone())).await.unwrap();
    for last in [Last::Lost, Last::Unanswered] {
        for stop in 0..counting.operations() {
            let objects = Arc::new(InMemory::new());
            let faulty = Faulty::new(objects.clone(), Some((stop, last)));
            signer.init(Store::on(faulty)).await.unwrap_err();
            match signer.init(Store::on(objects.clone())).await {
                Ok(_) => {}
                Err(error) => assert_eq!(error.code(), "registry_exists", "operation {stop}, {last:?}"),
            }
            read(&objects, &signer.root()).await.unwrap();
        }
    }
}
