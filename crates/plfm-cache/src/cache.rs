//! The cache as a whole: opening it, and finding releases in it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use jiff::Timestamp;
use plfm_release::{
    Architecture, Artifact, Channel, Keyring, Protocol, ReleaseId, Sha256Digest, SignedManifest,
    VerifiedManifest, VerifyError,
};

use crate::blob::Verified;
use crate::hold::Holds;
use crate::installed::open_artifact;
use crate::record::{self, Record};
use crate::tree::Tree;
use crate::{Disk, DiskError, HostDisk, InstalledRelease, ReleaseError, Repair, repair};

/// What this host takes and what its agent can run.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Keys that may have signed a release.
    pub keyring: Keyring,
    /// The one channel.
    pub channel: Channel,
    /// This machine.
    pub arch: Architecture,
    /// Version of the agent.
    pub agent_version: semver::Version,
    /// Guest init protocols that the agent speaks.
    pub protocols: Vec<Protocol>,
}

/// A release that is in the directory, whether or not it can be used.
#[derive(Debug)]
pub struct InventoryEntry {
    /// The release.
    pub release: ReleaseId,
    /// When it was installed; `None` where its files do not tell any more.
    pub installed_at: Option<Timestamp>,
    /// Why it cannot be used, if it cannot.
    pub problem: Option<ReleaseError>,
}

/// Why a cache could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the cache directory {} is in use by another process; one agent at a time can have it", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl OpenError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "cache_locked",
            Self::Disk(error) => error.code(),
        }
    }
}

/// The host's artifact directory. Clones are the same cache.
///
/// The directory stays locked until the last clone and the last [`InstalledRelease`] of it is gone.
#[derive(Clone)]
pub struct Cache {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) tree: Tree,
    pub(crate) verified: Verified,
    /// Releases that an [`InstalledRelease`] is of.
    pub(crate) releases: Holds<ReleaseId>,
    /// Artifacts that a staged release counts on.
    pub(crate) artifacts: Holds<Sha256Digest>,
    trust: RwLock<Trust>,
    changes: Mutex<()>,
}

impl Shared {
    pub(crate) fn trust(&self) -> RwLockReadGuard<'_, Trust> {
        self.trust.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while names in the directory change.
    pub(crate) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("dir", &self.shared.tree.disk().dir())
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// Opens the cache in `dir`, which is made if it is missing, and repairs what a crash or a person left undone.
    ///
    /// # Errors
    /// [`OpenError`] when another process has the directory or the disk fails.
    pub fn open(dir: &Path, trust: Trust) -> Result<(Self, Vec<Repair>), OpenError> {
        Self::open_on(Arc::new(HostDisk::open(dir)?), trust)
    }

    /// Opens the cache on a [`Disk`] of the caller's: for tests that make the disk fail.
    ///
    /// # Errors
    /// [`OpenError`] when the disk fails.
    pub fn open_on(disk: Arc<dyn Disk>, trust: Trust) -> Result<(Self, Vec<Repair>), OpenError> {
        let tree = Tree::new(disk);
        let verified = Verified::default();
        let repairs = repair::repair(&tree, &verified, &trust)?;
        let shared = Shared {
            tree,
            verified,
            releases: Holds::default(),
            artifacts: Holds::default(),
            trust: RwLock::new(trust),
            changes: Mutex::new(()),
        };
        Ok((
            Self {
                shared: Arc::new(shared),
            },
            repairs,
        ))
    }

    /// Trusts the keys of `keyring` from now on, and no others: a key revoked in it stops the next boot.
    pub fn replace_keyring(&self, keyring: Keyring) {
        self.shared
            .trust
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .keyring = keyring;
    }

    /// The keys that are trusted now.
    pub fn keyring(&self) -> Keyring {
        self.shared.trust().keyring.clone()
    }

    /// The release that is current, whether or not it can be booted now.
    ///
    /// # Errors
    /// [`ReleaseError`] when the record of what is current makes no sense.
    pub fn current_id(&self) -> Result<Option<ReleaseId>, ReleaseError> {
        record::current_id(&self.shared.tree)
    }

    /// Whether an artifact is on this host and is what its manifest says.
    pub fn has(&self, artifact: &Artifact) -> bool {
        open_artifact(&self.shared, artifact).is_ok()
    }

    /// Verifies a manifest that arrived at `now`, by what this cache trusts.
    ///
    /// # Errors
    /// [`VerifyError`] when its key, signature, channel or machine is not to be trusted at that moment.
    pub fn verify(&self, signed: SignedManifest, now: Timestamp) -> Result<VerifiedManifest, VerifyError> {
        self.shared.trust().verify(signed, now)
    }

    /// An installed release, its manifest verified anew.
    ///
    /// # Errors
    /// [`ReleaseError`] when it is not installed, not trusted any more, or not for this agent.
    pub fn get(&self, release: &ReleaseId) -> Result<InstalledRelease, ReleaseError> {
        // Before it is looked for: what is found stays.
        let hold = self.shared.releases.take(release);
        let trust = self.shared.trust();
        let record = Record::read(&self.shared.tree, &trust, release)?;
        let protocol = record.protocol(&trust)?;
        Ok(InstalledRelease::new(
            Arc::clone(&self.shared),
            record,
            protocol,
            hold,
        ))
    }

    /// The current release, if one was set.
    ///
    /// # Errors
    /// [`ReleaseError`] as for [`Cache::get`], and when the record of what is current makes no sense.
    pub fn current(&self) -> Result<Option<InstalledRelease>, ReleaseError> {
        record::current_id(&self.shared.tree)?
            .map(|release| self.get(&release))
            .transpose()
    }

    /// What retention asks of every release that was installed, by id.
    ///
    /// # Errors
    /// [`DiskError`] when the directory cannot be read.
    pub fn inventory(&self) -> Result<Vec<InventoryEntry>, DiskError> {
        let entry = |release: ReleaseId| {
            let problem = match self.get(&release) {
                Ok(_) => None,
                Err(ReleaseError::Disk(error)) => return Err(error),
                Err(problem) => Some(problem),
            };
            Ok(InventoryEntry {
                installed_at: record::installed_at(&self.shared.tree, &release)?,
                release,
                problem,
            })
        };
        let ids = record::release_ids(&self.shared.tree)?;
        ids.into_iter().map(entry).collect()
    }

    /// Every release that was installed, by id, each with what [`Cache::get`] says of it.
    ///
    /// # Errors
    /// [`DiskError`] when the directory cannot be listed.
    #[allow(clippy::type_complexity)]
    pub fn list(&self) -> Result<Vec<(ReleaseId, Result<InstalledRelease, ReleaseError>)>, DiskError> {
        let ids = record::release_ids(&self.shared.tree)?;
        let got = |id: ReleaseId| {
            let release = self.get(&id);
            (id, release)
        };
        Ok(ids.into_iter().map(got).collect())
    }
}
