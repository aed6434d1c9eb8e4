//! Any cuts, any splits, any garbage.

use std::collections::VecDeque;
use std::sync::Mutex;

use plfm_registry::fetch::RegistryClient;
use plfm_release::ArtifactKind;
use proptest::prelude::*;

use crate::fetch_fixtures::*;
use crate::fetch_server::{Reply, Server};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// Fetches a small release whose connections are cut after these numbers of bytes, one after the other.
async fn fetch_with_cuts(kernel: Vec<u8>, cuts: Vec<usize>) -> Vec<u8> {
    let (dir, release) = (directory(), Release::of("a", kernel, b"initramfs".to_vec()));
    let repository = Repository::with(&[&release]);
    let cuts = Mutex::new(VecDeque::from(cuts));
    let server = Server::evil(&repository.files, move |request| {
        match request
            .path
            .contains("vmlinuz")
            .then(|| cuts.lock().unwrap().pop_front())
            .flatten()
        {
            Some(cut) => Reply::Cut(cut),
            None => Reply::Good,
        }
    })
    .await;
    let mut settings = settings(vec![server.mirror()], dir.path());
    settings.attempts_max = 100;
    let client = RegistryClient::open(settings, repository.root()).unwrap();
    let view = client.update(now()).await.unwrap();
    let fetched = fetch(&client, &view, &release.id()).await.unwrap();
    content(&fetched, ArtifactKind::Kernel)
}

#[test]
fn a_cut_at_every_byte_is_healed() {
    let kernel: Vec<u8> = (0..48).collect();
    for cut in 0..=kernel.len() {
        assert_eq!(
            block_on(fetch_with_cuts(kernel.clone(), vec![cut])),
            kernel,
            "cut at {cut}"
        );
    }
    // And a cut after every byte.
    assert_eq!(block_on(fetch_with_cuts(kernel.clone(), vec![1; 48])), kernel);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_cuts_give_the_same_file(
        kernel in proptest::collection::vec(any::<u8>(), 1..5000),
        cuts in proptest::collection::vec(0_usize..2000, 0..20),
    ) {
        prop_assert_eq!(block_on(fetch_with_cuts(kernel.clone(), cuts)), kernel);
    }

    #[test]
    fn garbage_in_the_place_of_metadata_is_a_typed_error(
        file in prop::sample::select(vec![
            "metadata/2.root.json", "metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json",
        ]),
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        block_on(async {
            let (dir, mut repository) = (directory(), Repository::with(&[]));
            repository.files.insert(file.to_owned(), garbage);
            let server = Server::serve(&repository.files).await;
            let client = open(vec![server.mirror()], dir.path(), repository.root());
            let code = client.update(now()).await.unwrap_err().code();
            assert!(["registry_malformed", "registry_mixed"].contains(&code), "{code}");
        });
    }

    #[test]
    fn a_changed_byte_of_metadata_is_a_typed_error_or_changes_nothing(
        file in prop::sample::select(vec![
            "metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json",
        ]),
        at: prop::sample::Index,
        byte: u8,
    ) {
        block_on(async {
            let (dir, mut repository) = (directory(), Repository::with(&[]));
            let content = repository.files.get_mut(file).unwrap();
            let at = at.index(content.len());
            content[at] = byte;
            let server = Server::serve(&repository.files).await;
            let client = open(vec![server.mirror()], dir.path(), repository.root());
            if let Ok(view) = client.update(now()).await {
                assert_eq!(view.version(), 1);
                assert!(view.keyring().is_some());
            }
        });
    }
}
