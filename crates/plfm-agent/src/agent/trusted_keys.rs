//! Whose releases this host takes.
//!
//! | from the registry | the host's own file | trusted |
//! |---|---|---|
//! | a keyring | - | the registry's keys |
//! | a keyring | a keyring | the registry's keys, less what the file revokes: it is the operator's brake |
//! | none yet | a keyring | the file's keys |
//! | none yet | - | nothing, until the registry was read |
//! | told of none | - | an error: such a host could never take anything |

use std::path::Path;

use anyhow::{Context as _, anyhow};
use plfm_release::Keyring;
use tracing::{info, warn};

use super::registry::RegistryLink;
use super::{Agent, read_bounded};
use crate::problem::ApiError;
use crate::settings::Settings;

/// Largest keyring, in bytes.
const KEYRING_BYTES_MAX: u64 = 1024 * 1024;

impl Agent {
    /// Reads the keyring again: a key that was revoked in it stops the next boot, and nothing that runs.
    /// On an error no key that was revoked is trusted again.
    pub fn reload_keyring(&self) {
        match self.trust_keys() {
            Ok(()) => info!("keyring read again"),
            Err(error) => warn!("the keyring stays as it was: {error}"),
        }
    }

    /// Trusts the keys of now. Where the host's own file cannot be used, the registry's keys count all the same, less what
    /// was revoked before: a broken file keeps no revocation from the host and takes none back.
    pub(super) fn trust_keys(&self) -> Result<(), ApiError> {
        let _one_at_a_time = self.0.trusting.lock();
        let registry = self.0.registry.as_ref();
        match load(&self.0.settings, registry) {
            Ok(keyring) => {
                self.0.cache.replace_keyring(keyring);
                Ok(())
            }
            Err(error) => {
                if let Some(delivered) = registry.and_then(RegistryLink::keyring) {
                    let keyring = delivered.with_revocations_of(&self.0.cache.keyring());
                    self.0.cache.replace_keyring(keyring);
                }
                Err(ApiError::internal("keyring_unreadable", format!("{error:#}"))
                    .hint("mend the file, or remove it to go by the registry alone"))
            }
        }
    }
}

/// The keys that this host trusts.
pub(super) fn load(settings: &Settings, registry: Option<&RegistryLink>) -> anyhow::Result<Keyring> {
    let own = load_own(&settings.keyring)?;
    match (registry.and_then(RegistryLink::keyring), own) {
        (Some(delivered), Some(own)) => Ok(delivered.with_revocations_of(&own)),
        (Some(keyring), None) | (None, Some(keyring)) => Ok(keyring),
        (None, None) if registry.is_some() => Ok(Keyring::default()),
        (None, None) => {
            let path = settings.keyring.display();
            Err(anyhow!(
                "there is no keyring {path} (--keyring names it), and no --registry to get one from"
            ))
        }
    }
}

/// The host's own keyring; `None` only where there is none. One that cannot be read is an error: it may revoke something.
fn load_own(path: &Path) -> anyhow::Result<Option<Keyring>> {
    let bytes = match read_bounded(path, KEYRING_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot read the keyring {} (--keyring names it)", path.display()));
        }
    };
    let keyring =
        Keyring::parse(&bytes).with_context(|| format!("cannot use the keyring {}", path.display()))?;
    Ok(Some(keyring))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_is_not_there_is_no_keyring() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring.json");
        assert_eq!(load_own(&path).unwrap(), None);
        std::os::unix::fs::symlink("gone", &path).unwrap();
        assert!(
            load_own(&path).is_err(),
            "a link to nowhere hides what it should say"
        );
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "{").unwrap();
        assert!(load_own(&path).is_err());
        std::fs::write(&path, Keyring::default().render()).unwrap();
        assert_eq!(load_own(&path).unwrap(), Some(Keyring::default()));
    }
}
