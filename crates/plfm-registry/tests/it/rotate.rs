use plfm_registry::keyring::KeyringChange;
use plfm_registry::rotate::NewRootKeys;
use plfm_registry::{OnlineKeys, RoleName};

use crate::fixture::{Signer, entry, key, keys, online, release, root_keys, two, with_one};
use crate::reader::{read, read_with_roots};

#[tokio::test]
async fn a_host_follows_the_root_from_the_first_to_the_last() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let before = read(&objects, &signer.root()).await.unwrap();
    let mut repository = signer.open(objects.clone()).await.unwrap();
    let (second, third) = (keys([3, 4, 5]), keys([6, 7, 8, 9]));
    let of = |keys| NewRootKeys {
        keys,
        threshold: two(),
    };
    repository
        .rotate_root(&root_keys(), Some(of(&second)), &signer.signing())
        .await
        .unwrap();
    let error = repository
        .rotate_root(&root_keys(), None, &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_wrong_keys", "old keys count still");
    let rotated = repository
        .rotate_root(&second, Some(of(&third)), &signer.signing())
        .await
        .unwrap();
    assert_eq!((rotated.root_version, rotated.keys.len()), (3, 4));
    assert_eq!(read(&objects, &signer.root()).await.unwrap(), before);
    let mut repository = signer.open(objects.clone()).await.unwrap();
    let change = || KeyringChange::Trust(Box::new(entry(51, signer.now)));
    let error = repository
        .change_keyring(change(), &second, &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_wrong_keys");
    repository
        .change_keyring(change(), &third, &signer.signing())
        .await
        .unwrap();
    assert_eq!(read(&objects, &signer.root()).await.unwrap().keyring_version, 2);
}

#[tokio::test]
async fn one_root_key_rotates_nothing() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let mut repository = signer.open(objects.clone()).await.unwrap();
    let error = repository
        .rotate_root(&keys([1]), None, &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_wrong_keys");
    let error = repository
        .rotate_root(&keys([1, 66]), None, &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_wrong_keys");
    let change = KeyringChange::Trust(Box::new(entry(51, signer.now)));
    let error = repository
        .change_keyring(change, &keys([1]), &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_wrong_keys");
}

#[tokio::test]
async fn a_replaced_key_signs_no_more() {
    for role in RoleName::ONLINE {
        let mut signer = Signer::new();
        let objects = with_one(&signer).await;
        let mut repository = signer.open(objects.clone()).await.unwrap();
        let rotated = repository
            .rotate_key(role, key(40), &root_keys(), online(), &signer.signing())
            .await
            .unwrap();
        assert_eq!(rotated.keys, [key(40).public_key().id()]);
        read(&objects, &signer.root()).await.unwrap();
        // A host that read the root before the rotation reads the rest after it.
        read_with_roots(&objects, &signer.root(), 1).await.unwrap();
        let root = signer.root();
        let mut repository = signer.open(objects.clone()).await.unwrap();
        let error = repository
            .publish(&release("b", "b"), &signer.signing())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "registry_wrong_keys", "{role}");
        match role {
            RoleName::Targets => signer.keys.targets = keys([40]),
            RoleName::Snapshot => signer.keys.snapshot = keys([40]),
            RoleName::Timestamp | RoleName::Root => signer.keys.timestamp = keys([40]),
        }
        repository
            .publish(&release("b", "b"), &signer.signing())
            .await
            .unwrap();
        assert_eq!(read(&objects, &root).await.unwrap().files.len(), 8);
    }
}

#[tokio::test]
async fn a_lost_key_is_replaced_without_it() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let mut repository = signer.open(objects.clone()).await.unwrap();
    let left = OnlineKeys {
        timestamp: Vec::new(),
        ..online()
    };
    let role = RoleName::Timestamp;
    repository
        .rotate_key(role, key(40), &root_keys(), left, &signer.signing())
        .await
        .unwrap();
    read(&objects, &signer.root()).await.unwrap();
}
