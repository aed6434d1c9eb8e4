//! The same on S3, as `moto` plays it: `cargo xtask test` starts it and names its address in `PLFM_TEST_S3`.

use plfm_registry::{Repository, Store};

use crate::fixture::{Signer, release};

const BUCKET: &str = "plfm";

/// A part of the bucket that no other test and no earlier run has.
fn store(prefix: &str) -> Store {
    let endpoint = std::env::var("PLFM_TEST_S3").expect("PLFM_TEST_S3 names no S3 server");
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let settings = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Store::open(&format!("s3://{BUCKET}/{prefix}-{since_1970}"), settings).unwrap()
}

#[tokio::test]
#[ignore = "needs an S3 server: cargo xtask test starts one"]
async fn a_bucket_is_a_repository_with_conditional_puts() {
    let bucket = store("publish");
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
