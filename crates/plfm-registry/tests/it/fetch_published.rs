//! Both sides together: what the publishing side publishes, a host fetches.

use std::sync::Arc;

use plfm_registry::fetch::{FetchRequest, Mirror, RegistryClient, Settings};
use plfm_registry::{Store, serve};
use plfm_release::{Architecture, ArtifactKind, VerifyPolicy};
use tokio::net::TcpListener;

use crate::fetch_fixtures::{content, directory};
use crate::fixture::{Signer, release, release_id};

/// Fetches release a from `mirror`, as a host that knows the first root.
async fn fetch_from(mirror: Mirror, signer: &Signer) {
    let dir = directory();
    let settings = Settings::new(vec![mirror], dir.path().to_owned(), signer.now, Arc::new(|| 0));
    let client = RegistryClient::open(settings, &signer.root()).unwrap();
    let view = client.update(signer.now).await.unwrap();
    assert_eq!(view.releases().len(), 1);
    let keyring = view.keyring().unwrap();
    assert_eq!(keyring.keyring(), &signer.keyring());
    let request = FetchRequest {
        release: &release_id("a", "a"),
        keyring: keyring.keyring(),
        policy: &VerifyPolicy {
            channel: "staging".parse().unwrap(),
            arch: Architecture::X86_64,
            at: signer.now,
        },
        is_here: &|_| false,
        progress: &|_| {},
    };
    let fetched = client.fetch_release(&view, request).await.unwrap();
    assert_eq!(content(&fetched, ArtifactKind::Kernel), b"kernel a");
    assert_eq!(content(&fetched, ArtifactKind::Initramfs), b"initramfs a");
}

async fn published(signer: &Signer) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap(), []).unwrap();
    let mut repository = signer.init(store).await.unwrap();
    repository
        .publish(&release("a", "a"), &signer.signing())
        .await
        .unwrap();
    dir
}

#[tokio::test]
async fn a_host_fetches_what_was_published_from_the_embedded_server() {
    let signer = Signer::new();
    let dir = published(&signer).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mirror = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let router = serve::router(dir.path());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    fetch_from(mirror, &signer).await;
    server.abort();
}

#[tokio::test]
async fn a_host_fetches_what_was_published_from_its_directory() {
    let signer = Signer::new();
    let dir = published(&signer).await;
    fetch_from(Mirror::Dir(dir.path().to_owned()), &signer).await;
}
