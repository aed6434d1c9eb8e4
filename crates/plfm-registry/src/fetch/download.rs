//! One file of the repository, from whichever mirrors give it.
//!
//! ```text
//!            +--> open at the partial file's length --> 206: go on     --+--> complete? digest right --> final name
//! rotate     |                                          200: from zero   |            digest wrong --> from zero
//! mirrors  --+                                          416: from zero   |
//!            +<-------------- wait, with jitter <--- cut, silent, slow --+
//! ```
//!
//! Bytes of several mirrors may make one file. If its digest is wrong, nobody knows whose bytes were, so the mirror that
//! brought the last of them is asked for all of them: a second wrong digest is its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use plfm_release::Sha256Digest;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::backoff::wait_after;
use super::pace::Pace;
use super::partial::Partial;
use super::source::{Part, Source};
use super::{DiskError, DownloadError, DownloadFault, FailedMirror, Files, Settings};
use crate::layout::TARGETS_DIR;

/// An attempt that brought as much as this counts as progress: attempts that brought nothing are counted anew.
const PROGRESS_BYTES: u64 = 64 * 1024;

/// A file of the repository, as signed metadata announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) sha256: Sha256Digest,
    pub(crate) size_bytes: u64,
}

impl Wanted {
    /// Its path below a mirror's base (TUF specification, section 6.2: consistent snapshots).
    fn path(&self) -> String {
        format!("{TARGETS_DIR}/{}.{}", self.sha256, self.name)
    }
}

/// Everything that downloads share.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) settings: Settings,
    pub(crate) source: Source,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) dir: PathBuf,
}

impl Means {
    pub(crate) fn final_path(&self, sha256: &Sha256Digest) -> PathBuf {
        self.dir.join(sha256.to_string())
    }

    pub(crate) fn partial_path(&self, sha256: &Sha256Digest) -> PathBuf {
        self.dir.join(format!("{sha256}.partial"))
    }
}

/// Why an attempt ended without the file.
enum Stop {
    Fault(DownloadFault),
    Disk(DiskError),
}

impl From<DownloadFault> for Stop {
    fn from(fault: DownloadFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<DiskError> for Stop {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Downloads `wanted` to its final name. `done` gets the number of bytes that are here.
///
/// # Errors
/// [`DownloadError`].
pub(crate) async fn download(
    means: Arc<Means>,
    wanted: Wanted,
    done: watch::Sender<u64>,
) -> Result<(), DownloadError> {
    let deadline = means.settings.artifact_deadline;
    let mut download = Download::new(&means, &wanted, &done);
    let outcome = timeout(deadline, download.run()).await;
    outcome.unwrap_or_else(|_| {
        Err(DownloadError::Deadline {
            name: wanted.name.clone(),
            deadline,
            bytes_done: *done.borrow(),
            bytes_total: wanted.size_bytes,
        })
    })
}

struct Download<'a> {
    means: &'a Means,
    wanted: &'a Wanted,
    done: &'a watch::Sender<u64>,
    /// What each mirror did last; by its place in the settings.
    faults: BTreeMap<usize, DownloadFault>,
    /// The entity tag that each mirror gave.
    etags: BTreeMap<usize, String>,
    /// Whose bytes the partial file has; `None` for those of an earlier run.
    origins: Vec<Option<usize>>,
}

impl<'a> Download<'a> {
    fn new(means: &'a Means, wanted: &'a Wanted, done: &'a watch::Sender<u64>) -> Self {
        Self {
            means,
            wanted,
            done,
            faults: BTreeMap::new(),
            etags: BTreeMap::new(),
            origins: Vec::new(),
        }
    }

    async fn run(&mut self) -> Result<(), DownloadError> {
        let settings = &self.means.settings;
        if self.reuse_finished().await? {
            return Ok(());
        }
        let mut partial = self.open_partial().await?;
        let mut next = usize::try_from((settings.random)()).unwrap_or(0);
        let mut failed = 0;
        while failed < settings.attempts_max {
            let Some(mirror) = self.choose(next) else {
                break;
            };
            next = mirror + 1;
            let before = partial.length();
            let (after, stop) = self.attempt(mirror, partial).await;
            let stop = match stop {
                Ok(()) => return Ok(()),
                Err(Stop::Disk(error)) => return Err(error.into()),
                Err(Stop::Fault(fault)) => fault,
            };
            tracing::warn!(
                mirror = %settings.mirrors.get(mirror).map(ToString::to_string).unwrap_or_default(),
                target = %self.wanted.name, code = stop.code(), "a download was interrupted: {stop}"
            );
            let progressed = *self.done.borrow() >= before.saturating_add(PROGRESS_BYTES);
            failed = if progressed { 1 } else { failed + 1 };
            let gone = stop.sets_aside();
            self.faults.insert(mirror, stop);
            partial = match after {
                Some(partial) => partial,
                None => self.open_partial().await?,
            };
            if !gone && failed < settings.attempts_max {
                sleep(wait_after(failed, settings)).await;
            }
        }
        Err(self.give_up())
    }

    fn give_up(&mut self) -> DownloadError {
        let mirrors = &self.means.settings.mirrors;
        let failures = std::mem::take(&mut self.faults);
        DownloadError::Mirrors {
            name: self.wanted.name.clone(),
            failures: failures
                .into_iter()
                .filter_map(|(mirror, fault)| {
                    let mirror = mirrors.get(mirror)?.clone();
                    Some(FailedMirror { mirror, fault })
                })
                .collect(),
        }
    }

    /// The first mirror from `next` on that is not set aside.
    fn choose(&self, next: usize) -> Option<usize> {
        let count = self.means.settings.mirrors.len();
        let next = next.checked_rem(count)?;
        (next..count)
            .chain(0..next)
            .find(|mirror| !self.faults.get(mirror).is_some_and(DownloadFault::sets_aside))
    }

    /// One attempt. Gives the partial file back where it has it.
    async fn attempt(&mut self, mirror: usize, partial: Partial) -> (Option<Partial>, Result<(), Stop>) {
        let mut slot = Some(partial);
        let result = self.attempt_with(mirror, &mut slot).await;
        (slot, result)
    }

    async fn attempt_with(&mut self, mirror: usize, slot: &mut Option<Partial>) -> Result<(), Stop> {
        let wanted = self.wanted;
        if length(slot) < wanted.size_bytes {
            self.receive(mirror, slot).await?;
        }
        let Some(partial) = slot.take() else {
            return Ok(());
        };
        let found = partial.digest();
        if found == wanted.sha256 {
            let to = self.means.final_path(&wanted.sha256);
            return Ok(blocking(move || partial.finish(&to)).await?);
        }
        *slot = Some(partial);
        let whose = std::mem::take(&mut self.origins);
        self.restart(slot).await?;
        if whose.iter().all(|origin| *origin == Some(mirror)) {
            let announced = wanted.sha256;
            return Err(DownloadFault::WrongDigest { found, announced }.into());
        }
        // Nobody can be blamed yet: once more from this mirror, and from it alone.
        Box::pin(self.attempt_with(mirror, slot)).await
    }

    /// Reads from `mirror` until the file is as long as was signed.
    async fn receive(&mut self, mirror: usize, slot: &mut Option<Partial>) -> Result<(), Stop> {
        let wanted = self.wanted;
        let Some(base) = self.means.settings.mirrors.get(mirror) else {
            return Ok(());
        };
        let (path, first) = (wanted.path(), length(slot));
        let part = Part {
            path: &path,
            first,
            complete: wanted.size_bytes,
            etag: self.etags.get(&mirror).map(String::as_str),
        };
        let opened = self
            .means
            .source
            .open(base, part)
            .await
            .map_err(DownloadFault::Read)?;
        let Some(mut opened) = opened else {
            self.restart(slot).await?;
            return Err(DownloadFault::NoSuchPart { first }.into());
        };
        if opened.first == 0 && first > 0 {
            // The whole file in answer to a request for its rest: never appended.
            self.restart(slot).await?;
        }
        if let Some(etag) = opened.etag.take() {
            self.etags.insert(mirror, etag);
        }
        let mut pace = Pace::new(&self.means.settings);
        while let Some(piece) = pace.next(&mut opened.body).await {
            let piece = piece.map_err(DownloadFault::Read)?;
            if piece.len() as u64 > wanted.size_bytes.saturating_sub(length(slot)) {
                self.restart(slot).await?;
                let announced = wanted.size_bytes;
                return Err(DownloadFault::TooLong { announced }.into());
            }
            self.append(mirror, slot, piece).await?;
        }
        let (found, announced) = (length(slot), wanted.size_bytes);
        if found < announced {
            return Err(DownloadFault::TooShort { found, announced }.into());
        }
        Ok(())
    }

    async fn append(
        &mut self,
        mirror: usize,
        slot: &mut Option<Partial>,
        piece: Bytes,
    ) -> Result<(), DiskError> {
        if let Some(partial) = slot.take() {
            if !self.origins.contains(&Some(mirror)) {
                self.origins.push(Some(mirror));
            }
            *slot = Some(blocking(move || partial.append(&piece)).await?);
        }
        self.done.send_replace(length(slot));
        Ok(())
    }

    async fn restart(&mut self, slot: &mut Option<Partial>) -> Result<(), DiskError> {
        if let Some(partial) = slot.take() {
            *slot = Some(blocking(move || partial.restart()).await?);
        }
        self.origins.clear();
        self.done.send_replace(0);
        Ok(())
    }

    async fn open_partial(&mut self) -> Result<Partial, DiskError> {
        let (files, path) = (
            Arc::clone(&self.means.files),
            self.means.partial_path(&self.wanted.sha256),
        );
        let size_bytes = self.wanted.size_bytes;
        let partial = blocking(move || Partial::open(files, &path, size_bytes)).await?;
        self.origins = if partial.length() > 0 {
            vec![None]
        } else {
            Vec::new()
        };
        self.done.send_replace(partial.length());
        Ok(partial)
    }

    /// Whether the finished file of an earlier run is there and is what was signed. What is not is removed.
    async fn reuse_finished(&mut self) -> Result<bool, DiskError> {
        let path = self.means.final_path(&self.wanted.sha256);
        let (files, wanted) = (Arc::clone(&self.means.files), self.wanted.clone());
        let good = blocking(move || is_finished(files, &path, &wanted)).await?;
        if good {
            self.done.send_replace(self.wanted.size_bytes);
        }
        Ok(good)
    }
}

fn is_finished(files: Arc<dyn Files>, path: &Path, wanted: &Wanted) -> Result<bool, DiskError> {
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    let finished = path
        .symlink_metadata()
        .is_ok_and(|found| found.is_file() && found.len() == wanted.size_bytes)
        && Partial::open(Arc::clone(&files), path, wanted.size_bytes)?.digest() == wanted.sha256;
    if !finished {
        files.remove(path).map_err(super::state::fail("remove", path))?;
    }
    Ok(finished)
}

fn length(slot: &Option<Partial>) -> u64 {
    slot.as_ref().map_or(0, Partial::length)
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> Result<T, DiskError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(DiskError {
            action: "finish work on",
            path: PathBuf::new(),
            source: std::io::Error::other(error),
        }),
    }
}
