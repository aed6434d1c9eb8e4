//! Updates and fetches that nobody disturbs.

use plfm_release::ArtifactKind;

use crate::fetch_fixtures::*;
use crate::fetch_server::Server;

#[tokio::test]
async fn a_published_release_is_listed_and_fetched() {
    let (dir, release) = (directory(), Release::new("a"));
    let repository = Repository::with(&[&release]);
    let server = Server::serve(&repository.files).await;
    let client = open(vec![server.mirror()], dir.path(), repository.root());
    let view = client.update(now()).await.unwrap();
    let listed = view.releases();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, release.id());
    let parts = release.signed_by(RELEASE_KEY).len() + release.kernel.len() + release.initramfs.len();
    assert_eq!(listed[0].size_bytes, Some(parts as u64));
    let fetched = fetch(&client, &view, &release.id()).await.unwrap();
    for kind in ArtifactKind::ALL {
        assert_eq!(content(&fetched, kind), release.bytes(kind));
    }
    assert_eq!(fetched.manifest().as_bytes(), release.signed_by(RELEASE_KEY));
    assert_nothing_unverified(dir.path());
}
