//! The keyring target: which keys may sign releases, by a threshold of the root keys.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU64;

use plfm_release::{PublicKey, SIGNED_KEYRING_BYTES_MAX, Sha256Digest, SignedKeyring, VerifiedKeyring};
use tough::Repository;
use tough::schema::key::Key;
use tough::schema::{RoleType, Root};

use super::Update;
use crate::fetch::download::Wanted;
use crate::fetch::view::TrustedTarget;
use crate::fetch::{MetadataFault, ReadFault};
use crate::layout::KEYRING_TARGET;

impl Update<'_> {
    /// The keyring and its text; none if the repository never had one.
    pub(super) async fn fetch_keyring(
        &self,
        repository: &Repository,
        targets: &BTreeMap<String, TrustedTarget>,
    ) -> Result<Option<(String, VerifiedKeyring)>, MetadataFault> {
        let kept = self.state.keyring.as_ref();
        let Some(target) = targets.get(KEYRING_TARGET) else {
            return match kept {
                Some(kept) => Err(MetadataFault::KeyringGone {
                    trusted: kept.version,
                }),
                None => Ok(None),
            };
        };
        let signed = match kept {
            Some(kept) if Sha256Digest::of(kept.signed.as_bytes()) == target.sha256 => kept.signed.clone(),
            _ => self.download_keyring(target).await?,
        };
        let keyring = verify_keyring(signed.as_bytes(), &repository.root().signed)?;
        match kept {
            // A floor even after the root keys that signed the kept one were replaced.
            Some(kept) if keyring.version() < kept.version => Err(MetadataFault::Rollback {
                what: "keyring".to_owned(),
                trusted: kept.version,
                offered: keyring.version(),
            }),
            _ => Ok(Some((signed, keyring))),
        }
    }

    async fn download_keyring(&self, target: &TrustedTarget) -> Result<String, MetadataFault> {
        let bytes_max = SIGNED_KEYRING_BYTES_MAX as u64;
        let file = KEYRING_TARGET.to_owned();
        if target.size_bytes > bytes_max {
            return Err(MetadataFault::TooLarge { file, bytes_max });
        }
        let wanted = Wanted {
            name: file.clone(),
            sha256: target.sha256,
            size_bytes: target.size_bytes,
        };
        let fetched = self
            .downloads
            .slot(&wanted)
            .fetch()
            .await
            .map_err(MetadataFault::KeyringDownload)?;
        tokio::task::spawn_blocking(move || fs::read_to_string(fetched.path()))
            .await
            .map_err(std::io::Error::other)
            .and_then(|read| read)
            .map_err(|error| MetadataFault::Read {
                file,
                fault: ReadFault::Directory(error),
            })
    }
}

/// Verifies a signed keyring with the root role's keys and threshold.
pub(in crate::fetch) fn verify_keyring(bytes: &[u8], root: &Root) -> Result<VerifiedKeyring, MetadataFault> {
    let keys: Vec<_> = root.keys(RoleType::Root).filter_map(public_key).collect();
    // A root without a root role verifies nothing, itself included; the number does not matter.
    let threshold = root
        .roles
        .get(&RoleType::Root)
        .map_or(NonZeroU64::MAX, |role| role.threshold);
    SignedKeyring::verify(bytes, &keys, threshold).map_err(MetadataFault::Keyring)
}

fn public_key(key: &Key) -> Option<PublicKey> {
    match key {
        Key::Ed25519 { keyval, .. } => PublicKey::from_bytes(keyval.public.as_ref().try_into().ok()?).ok(),
        _ => None,
    }
}
