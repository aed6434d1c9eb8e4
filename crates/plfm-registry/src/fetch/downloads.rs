//! All downloads of a client: one per file, however many ask.
//!
//! A slot holds one download, by digest. Everybody who asks for the file holds the slot; whoever of them waits drives
//! the download, so that it goes on when the first asker is gone and stops when the last one is. When nobody holds
//! the slot any more, the file is removed: by then it was installed, or nobody wants it.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use plfm_release::Sha256Digest;
use rustix::fs::{Mode, OFlags};
use tokio::sync::{Semaphore, watch};

use super::DownloadError;
use super::download::{Means, Wanted, download};

type Outcome = Result<(), Arc<DownloadError>>;

#[derive(Debug)]
pub(crate) struct Downloads {
    means: Arc<Means>,
    places: Arc<Semaphore>,
    slots: Mutex<HashMap<Sha256Digest, Weak<Slot>>>,
}

pub(crate) struct Slot {
    owner: Weak<Downloads>,
    wanted: Wanted,
    outcome: Shared<BoxFuture<'static, Outcome>>,
    done: watch::Receiver<u64>,
}

/// A file that was downloaded and verified: it has the length and the digest that were signed. The file lives as long
/// as the value.
pub struct FetchedFile {
    slot: Arc<Slot>,
    path: PathBuf,
}

impl Downloads {
    pub(crate) fn new(means: Arc<Means>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(means.settings.downloads_max.max(1)));
        Arc::new(Self {
            means,
            places,
            slots: Mutex::new(HashMap::new()),
        })
    }

    /// The one download of `wanted`.
    pub(crate) fn slot(self: &Arc<Self>, wanted: &Wanted) -> Arc<Slot> {
        // Declared before the lock, so that it is dropped after it: dropping the last holder of a slot takes the lock.
        let existing;
        let mut slots = self.slots();
        existing = slots.get(&wanted.sha256).and_then(Weak::upgrade);
        if let Some(slot) = &existing
            && !slot.outcome.peek().is_some_and(Result::is_err)
        {
            return Arc::clone(slot);
        }
        let (sender, done) = watch::channel(0);
        let (means, places, what) = (Arc::clone(&self.means), Arc::clone(&self.places), wanted.clone());
        let outcome = async move {
            // The semaphore is never closed.
            let _place = places.acquire_owned().await;
            download(means, what, sender).await.map_err(Arc::new)
        };
        let slot = Arc::new(Slot {
            owner: Arc::downgrade(self),
            wanted: wanted.clone(),
            outcome: outcome.boxed().shared(),
            done,
        });
        slots.insert(wanted.sha256, Arc::downgrade(&slot));
        slot
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Sha256Digest, Weak<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Waits for the download, and drives it.
    pub(crate) async fn fetch(self: Arc<Self>) -> Result<FetchedFile, Arc<DownloadError>> {
        self.outcome.clone().await?;
        let path = self
            .owner
            .upgrade()
            .map(|owner| owner.means.final_path(&self.wanted.sha256));
        Ok(FetchedFile {
            slot: self,
            path: path.unwrap_or_default(),
        })
    }

    /// How long the file is.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.wanted.size_bytes
    }

    /// How many bytes are here.
    pub(crate) fn done(&self) -> watch::Receiver<u64> {
        self.done.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(owner) = self.owner.upgrade() else {
            return;
        };
        let mut slots = owner.slots();
        // Another slot may have taken the place meanwhile, and want the file.
        let sha256 = &self.wanted.sha256;
        if slots
            .get(sha256)
            .is_some_and(|slot| slot.strong_count() == 0 && std::ptr::eq(slot.as_ptr(), self))
        {
            slots.remove(sha256);
            // What is left is found by the next download of the same file, or removed by the next start.
            let _ = owner.means.files.remove(&owner.means.final_path(sha256));
        }
    }
}

impl FetchedFile {
    /// Its digest.
    pub fn sha256(&self) -> Sha256Digest {
        self.slot.wanted.sha256
    }

    /// Its length, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.slot.wanted.size_bytes
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.path, flags, Mode::empty())?.into())
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.wanted).finish()
    }
}

impl fmt::Debug for FetchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
