//! What the client trusts, on disk: one file, replaced as a whole.
//!
//! Root, timestamp, snapshot, targets, the keyring and the time of the last update belong together. They are written
//! to a new file, synced, and take the old one's place by one rename, so that a crash leaves the old state or the new
//! one and never a mixture. What the file says was verified before it was written; what is read from it is verified
//! again as far as signatures go, because the TUF client begins from it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::limits::STATE_BYTES_MAX;
use super::{DiskError, Files};

const SCHEMA: &str = "plfm.trusted-registry-state/v1";
const FILE: &str = "trusted.json";
const NEW_FILE: &str = "trusted.json.new";

/// What was trusted last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrustedState {
    pub(crate) schema: String,
    /// When the last complete update was committed, by the host's clock.
    pub(crate) committed_at: Option<Timestamp>,
    /// The root metadata, as text.
    pub(crate) root: String,
    /// The timestamp metadata.
    pub(crate) timestamp: Option<String>,
    /// The snapshot metadata.
    pub(crate) snapshot: Option<String>,
    /// The targets metadata.
    pub(crate) targets: Option<String>,
    /// The signed keyring.
    pub(crate) keyring: Option<KeptKeyring>,
}

/// The keyring that was trusted last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptKeyring {
    /// Its version: no lower one is taken any more.
    pub(crate) version: u64,
    /// The envelope.
    pub(crate) signed: String,
    /// The root metadata that it was verified with: a newer root may be here before the keyring that it signed.
    pub(crate) root: String,
}

/// Why the trusted state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file is there and is not what the client wrote.
    #[error(
        "{} is damaged: {why}; removing it makes the host begin from its shipped root, and forget which versions it \
         has seen",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl StateError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "registry_state_damaged",
            Self::Disk(error) => error.code(),
        }
    }
}

impl TrustedState {
    /// The state of a host that knows its root only.
    pub(crate) fn beginning(root: String) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            committed_at: None,
            root,
            timestamp: None,
            snapshot: None,
            targets: None,
            keyring: None,
        }
    }

    /// The state in `dir`; nothing where there is none yet.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, StateError> {
        let path = dir.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(fail("open", &path)(source).into()),
        };
        let mut content = Vec::new();
        file.take(STATE_BYTES_MAX + 1)
            .read_to_end(&mut content)
            .map_err(fail("read", &path))?;
        let damaged = |why: String| StateError::Damaged {
            path: path.clone(),
            why,
        };
        if content.len() as u64 > STATE_BYTES_MAX {
            return Err(damaged(format!("it is longer than {STATE_BYTES_MAX} bytes")));
        }
        let state: Self = serde_json::from_slice(&content).map_err(|error| damaged(error.to_string()))?;
        if state.schema != SCHEMA {
            return Err(damaged(format!(
                "its schema is {:?}, not {SCHEMA:?}",
                state.schema
            )));
        }
        Ok(Some(state))
    }

    /// Puts this state in the place of the one in `dir`, and brings it to the disk.
    pub(crate) fn commit(&self, dir: &Path, files: &dyn Files) -> Result<(), DiskError> {
        let (path, new) = (dir.join(FILE), dir.join(NEW_FILE));
        let content = serde_json::to_vec(self)
            .map_err(io::Error::from)
            .map_err(fail("write", &new))?;
        // What a crash left there.
        files.remove(&new).map_err(fail("remove", &new))?;
        let file = files.open(&new).map_err(fail("create", &new))?;
        files.append(&file, &content).map_err(fail("write", &new))?;
        files.sync(&file).map_err(fail("sync", &new))?;
        files.rename(&new, &path).map_err(fail("rename", &new))?;
        files.sync_dir(dir).map_err(fail("sync", dir))
    }
}

/// Makes a [`DiskError`] of what the system says.
pub(crate) fn fail(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError { action, path, source }
}
