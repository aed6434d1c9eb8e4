//! What a host sees: `tough`'s client over the same files, from the root that the host was given.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use plfm_registry::layout::KEYRING_TARGET;
use plfm_registry::{RoleName, role_public_keys};
use plfm_release::{Keyring, Sha256Digest, SignedKeyring, VerifiedKeyring};
use tough::{IntoVec as _, RepositoryLoader, Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

/// Everything that a host gets to see, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Targets but the keyring, with digests.
    pub files: BTreeMap<String, Sha256Digest>,
    pub keyring: Keyring,
    pub keyring_version: u64,
}

#[derive(Debug, Clone)]
struct Files {
    store: Arc<InMemory>,
    root_version_max: u64,
}

#[async_trait]
impl Transport for Files {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let path = Path::from_url_path(url.path()).unwrap();
        let missing = || TransportError::new(TransportErrorKind::FileNotFound, url.clone());
        let root = path.filename().and_then(|name| name.strip_suffix(".root.json"));
        if root.is_some_and(|version| version.parse::<u64>().unwrap() > self.root_version_max) {
            return Err(missing());
        }
        let bytes = match self.store.get(&path).await {
            Ok(object) => object.bytes().await.unwrap(),
            Err(_) => return Err(missing()),
        };
        Ok(Box::pin(futures_util::stream::iter([Ok(bytes)])))
    }
}

/// Reads everything, as a host that trusts `root`.
pub async fn read(store: &Arc<InMemory>, root: &[u8]) -> Result<View, String> {
    read_with_roots(store, root, u64::MAX).await
}

/// The same, of a host that looked for roots when there was none later than `root_version_max`.
pub async fn read_with_roots(
    store: &Arc<InMemory>,
    root: &[u8],
    root_version_max: u64,
) -> Result<View, String> {
    let base = |directory: &str| Url::parse(&format!("http://registry/{directory}/")).unwrap();
    let files = Files {
        store: store.clone(),
        root_version_max,
    };
    let loader = RepositoryLoader::new(&root, base("metadata"), base("targets")).transport(files);
    let repository = loader.load().await.map_err(|error| format!("{error:?}"))?;
    let (mut seen, mut keyring) = (BTreeMap::new(), None);
    for name in repository.targets().signed.targets.keys() {
        let stream = repository
            .read_target(name)
            .await
            .map_err(|error| error.to_string())?;
        let stream = stream.ok_or("no target")?;
        let bytes = stream.into_vec().await.map_err(|error| error.to_string())?;
        if name.resolved() == KEYRING_TARGET {
            keyring = Some(bytes);
        } else {
            seen.insert(name.resolved().to_owned(), Sha256Digest::of(&bytes));
        }
    }
    let (keys, threshold) = role_public_keys(&repository.root().signed, RoleName::Root);
    let keyring: VerifiedKeyring =
        SignedKeyring::verify(&keyring.ok_or("no keyring")?, &keys, threshold).map_err(|e| e.to_string())?;
    Ok(View {
        files: seen,
        keyring_version: keyring.version(),
        keyring: keyring.into_keyring(),
    })
}
