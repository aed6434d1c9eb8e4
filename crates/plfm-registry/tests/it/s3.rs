//! The same on S3, as `moto` plays it. Runs where `PLFM_TEST_S3` names its address, which `tests/s3.sh` does.

use plfm_registry::{Repository, Store};

use crate::fixture::{Signer, release};

const BUCKET: &str = "plfm";

/// A store on a bucket of its own; `None`, said aloud, where there is no server.
fn store(prefix: &str) -> Option<Store> {
    let Ok(endpoint) = std::env::var("PLFM_TEST_S3") else {
        eprintln!("skipped: PLFM_TEST_S3 names no S3 server; run crates/plfm-registry/tests/s3.sh");
        return None;
    };
    let settings = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(Store::open(&format!("s3://{BUCKET}/{prefix}"), settings).unwrap())
}

#[tokio::test]
async fn a_bucket_is_a_repository_with_conditional_puts() {
    let Some(bucket) = store("publish") else { return };
    let signer = Signer::new();
    let mut first = signer.init(bucket.clone()).await.unwrap();
    let mut second = Repository::open(bucket.clone(), &signer.root()).await.unwrap();
    first
        .publish(&release("a", "a"), &signer.signing())
        .await
        .unwrap();
    let error = second
        .publish(&release("b", "b"), &signer.signing())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_conflict", "{error}");
    let mut second = Repository::open(bucket.clone(), &signer.root()).await.unwrap();
    second
        .publish(&release("b", "b"), &signer.signing())
        .await
        .unwrap();
    let last = Repository::open(bucket.clone(), &signer.root()).await.unwrap();
    assert_eq!(last.releases().len(), 2);
    let error = signer.init(bucket).await.unwrap_err();
    assert_eq!(error.code(), "registry_exists");
}
