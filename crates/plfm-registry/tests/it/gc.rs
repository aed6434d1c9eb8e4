use std::time::Duration;

use jiff::SignedDuration;
use plfm_registry::Store;
use plfm_registry::gc::{GRACE_DEFAULT, GRACE_MIN};

use crate::fault::Faulty;
use crate::fixture::{Signer, release, release_id, with_one};
use crate::reader::read;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn what_was_led_to_within_the_grace_stays_however_old_it_is() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let aging = Faulty::new(objects.clone(), None);
    let mut repository = signer.open(aging.clone()).await.unwrap();
    // Sixty days after the publication the release is yanked: a minute ago somebody read the timestamp before.
    aging.age(DAY * 60).await;
    let stale = std::sync::Arc::new(objects.fork());
    repository
        .yank(&release_id("a", "a"), "x", &signer.signing())
        .await
        .unwrap();
    let garbage = repository.find_garbage(signer.now, GRACE_DEFAULT).await.unwrap();
    let led_to_before = read(&stale, &signer.root()).await.unwrap().files;
    for name in led_to_before.keys() {
        assert!(
            !garbage.files.iter().any(|file| file.name.ends_with(name)),
            "{name} is garbage"
        );
    }
    // Nine days later nobody holds a valid timestamp that leads there.
    aging.age(DAY * 9).await;
    let garbage = repository.find_garbage(signer.now, GRACE_DEFAULT).await.unwrap();
    for name in led_to_before.keys() {
        assert!(
            garbage.files.iter().any(|file| file.name.ends_with(name)),
            "{name} stays"
        );
    }
    let removed = repository.remove_garbage(&garbage).await.unwrap();
    assert_eq!(removed, garbage.files.len());
    read(&objects, &signer.root()).await.unwrap();
    assert!(
        repository
            .find_garbage(signer.now, GRACE_DEFAULT)
            .await
            .unwrap()
            .files
            .is_empty()
    );
}

#[tokio::test]
async fn leftovers_of_a_cut_off_change_go_after_the_grace_and_roots_never() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let aging = Faulty::new(objects, None);
    let store = Store::on(aging.clone());
    for name in [
        "metadata/9.targets.json",
        "metadata/9.snapshot.json",
        "targets/ff.x",
        "metadata/9.root.json",
    ] {
        store.create(name, b"{}").await.unwrap();
    }
    let repository = signer.open(aging.clone()).await.unwrap();
    // Whatever is asked for, a publisher at work has a day.
    let garbage = repository
        .find_garbage(signer.now, SignedDuration::ZERO)
        .await
        .unwrap();
    assert!(garbage.files.is_empty(), "{garbage:?}");
    aging.age(DAY * 2).await;
    let garbage = repository.find_garbage(signer.now, GRACE_MIN).await.unwrap();
    let names: Vec<_> = garbage.files.iter().map(|file| file.name.as_str()).collect();
    for gone in [
        "metadata/9.targets.json",
        "metadata/9.snapshot.json",
        "targets/ff.x",
    ] {
        assert!(names.contains(&gone), "{gone} stays");
    }
    assert!(!names.iter().any(|name| name.contains("root")));
}

#[tokio::test]
async fn what_is_published_again_while_gc_runs_stays() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let aging = Faulty::new(objects.clone(), None);
    let mut repository = signer.open(aging.clone()).await.unwrap();
    repository
        .publish(&release("b", "a"), &signer.signing())
        .await
        .unwrap();
    repository
        .yank(&release_id("a", "a"), "x", &signer.signing())
        .await
        .unwrap();
    aging.age(DAY * 60).await;
    let garbage = repository.find_garbage(signer.now, GRACE_DEFAULT).await.unwrap();
    assert!(
        garbage
            .files
            .iter()
            .any(|file| file.name.contains("vmlinuz-plfm-6.1.50-a"))
    );
    // The kernel comes back with another initramfs between the look and the removal.
    repository
        .publish(&release("a", "c"), &signer.signing())
        .await
        .unwrap();
    repository.remove_garbage(&garbage).await.unwrap();
    let view = read(&objects, &signer.root()).await.unwrap();
    assert!(view.files.contains_key("vmlinuz-plfm-6.1.50-a"));
}
