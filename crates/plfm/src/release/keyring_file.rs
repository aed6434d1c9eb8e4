//! A keyring in a file: read whole, written whole.
//!
//! Invariant: the file holds the old keyring or the new one, at every moment and after a crash.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use plfm_release::{Keyring, KeyringError};

use crate::output::{Category, CliError};

/// Why a keyring file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringFileError {
    /// It can't be read.
    #[error("cannot read the keyring {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds no keyring.
    #[error("{} is not a keyring", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyringError,
    },
    /// It can't be written.
    #[error("cannot write the keyring {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<KeyringFileError> for CliError {
    fn from(error: KeyringFileError) -> Self {
        let (category, code) = match &error {
            KeyringFileError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                (Category::NotFound, "keyring_missing")
            }
            KeyringFileError::Read { .. } => (Category::Failure, "keyring_unreadable"),
            KeyringFileError::Parse { .. } => (Category::Failure, "keyring_malformed"),
            KeyringFileError::Write { .. } => (Category::Failure, "keyring_unwritable"),
        };
        let hint = (code == "keyring_missing").then(|| {
            "make one with `plfm release keys generate --out DIR --name NAME --keyring FILE`".to_owned()
        });
        CliError::from_error(category, code, &error).with_hint(hint)
    }
}

/// Reads a keyring.
pub fn load(path: &Path) -> Result<Keyring, KeyringFileError> {
    let bytes = fs::read(path).map_err(|source| KeyringFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    Keyring::parse(&bytes).map_err(|source| KeyringFileError::Parse {
        path: path.to_owned(),
        source,
    })
}

/// Writes a keyring: beside its place, synced, then renamed.
pub fn store(path: &Path, keyring: &Keyring) -> Result<(), KeyringFileError> {
    store_bytes(path, keyring.render().as_bytes()).map_err(|source| KeyringFileError::Write {
        path: path.to_owned(),
        source,
    })
}

fn store_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = parent(path);
    let mut file = tempfile::Builder::new().prefix(".keyring-").tempfile_in(parent)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(parent)?.sync_all()
}

/// Holds off other changes of the keyring until it is dropped: between reading and writing it, another command
/// could add a key that the write would lose.
pub fn lock(path: &Path) -> Result<File, KeyringFileError> {
    let locked = File::open(parent(path)).and_then(|dir| dir.lock().map(|()| dir));
    locked.map_err(|source| KeyringFileError::Write {
        path: path.to_owned(),
        source,
    })
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_round_trips_and_leaves_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.json");
        store(&path, &Keyring::default()).unwrap();
        store(&path, &Keyring::default()).unwrap();
        assert_eq!(load(&path).unwrap(), Keyring::default());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn missing_and_malformed_keyrings_have_their_own_codes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.json");
        let error = CliError::from(load(&path).unwrap_err());
        assert_eq!(
            (error.category, error.code.as_str()),
            (Category::NotFound, "keyring_missing")
        );
        fs::write(&path, "{}").unwrap();
        let error = CliError::from(load(&path).unwrap_err());
        assert_eq!(
            (error.category, error.code.as_str()),
            (Category::Failure, "keyring_malformed")
        );
    }
}
