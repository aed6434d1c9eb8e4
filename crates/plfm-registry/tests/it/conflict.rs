//! Two publishers at once.

use std::sync::Arc;

use crate::fault::Faulty;
use crate::fixture::{Signer, release, with_one};
use crate::reader::read;

#[tokio::test]
async fn the_slower_of_two_publishers_gets_a_conflict_and_loses_nothing() {
    let signer = Signer::new();
    let objects = with_one(&signer).await;
    let mut slow = signer.open(objects.clone()).await.unwrap();
    let mut fast = signer.open(objects.clone()).await.unwrap();
    fast.publish(&release("b", "b"), &signer.signing()).await.unwrap();
    let error = slow
        .publish(&release("c", "c"), &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_conflict");
    let mut slow = signer.open(objects.clone()).await.unwrap();
    slow.publish(&release("c", "c"), &signer.signing()).await.unwrap();
    let view = read(&objects, &signer.root()).await.unwrap();
    assert_eq!(view.files.len(), 3 * 4);
}

#[tokio::test]
async fn a_publisher_that_comes_in_at_any_moment_is_not_undone() {
    let signer = Signer::new();
    let base = with_one(&signer).await;
    let counting = Faulty::new(Arc::new(base.fork()), None);
    let mut repository = signer.open(counting.clone()).await.unwrap();
    repository
        .publish(&release("b", "b"), &signer.signing())
        .await
        .unwrap();
    let (mut conflicts, mut both) = (0, 0);
    for at in 0..counting.operations() {
        let objects = Arc::new(base.fork());
        let other = objects.clone();
        let interruption = Box::pin(async move {
            let signer = Signer::new();
            let mut repository = signer.open(other).await.unwrap();
            repository
                .publish(&release("c", "c"), &signer.signing())
                .await
                .unwrap();
        });
        let interrupted = Faulty::interrupted(objects.clone(), at, interruption);
        let result = match signer.open(interrupted).await {
            Ok(mut repository) => repository
                .publish(&release("b", "b"), &signer.signing())
                .await
                .map(drop),
            Err(error) => Err(error),
        };
        let view = read(&objects, &signer.root()).await.unwrap();
        assert!(
            view.files.contains_key("vmlinuz-plfm-6.1.50-c"),
            "operation {at}: c is undone"
        );
        match result {
            Ok(()) => {
                assert!(
                    view.files.contains_key("vmlinuz-plfm-6.1.50-b"),
                    "operation {at}: b is undone"
                );
                both += 1;
            }
            Err(error) => {
                assert_eq!(error.code(), "registry_conflict", "operation {at}: {error}");
                assert!(
                    !view.files.contains_key("vmlinuz-plfm-6.1.50-b"),
                    "operation {at}"
                );
                conflicts += 1;
            }
        }
        let mut repository = signer.open(objects.clone()).await.unwrap();
        repository
            .publish(&release("b", "b"), &signer.signing())
            .await
            .unwrap();
        assert_eq!(read(&objects, &signer.root()).await.unwrap().files.len(), 3 * 4);
    }
    assert!(conflicts > 5 && both > 0, "{conflicts} conflicts, {both} without");
}
