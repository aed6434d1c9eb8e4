//! Scrubbing: what is installed is read again, at the caller's pace, before a boot needs it.
//!
//! Opening a cache reads no artifact, so that an agent starts at once; it scrubs in the background instead, a few
//! megabytes at a time, and fetches anew what is reported.
//!
//! Invariant: a scrub changes nothing but this: what rotted is moved to `.quarantine`, as a boot would do. A file
//! that the disk cannot read stays where it is, as a disk may read it the next time; [`Cache::stage`] replaces it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use plfm_release::{Artifact, ReleaseId, Sha256Digest, Sha256Hasher};

use crate::blob::{self, BlobFault};
use crate::cache::Shared;
use crate::record::{self, Record};
use crate::tree;
use crate::{Cache, DiskError, FileFacts, ReleaseError, Rot};

/// How much is read at once.
const CHUNK_BYTES: u64 = 128 * 1024;

/// An artifact that has to be fetched anew.
#[derive(Debug)]
pub struct Rotted {
    /// A release that needs it. Where several do, each is reported.
    pub release: ReleaseId,
    /// The artifact.
    pub artifact: Artifact,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an artifact on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is gone.
    #[error("it is missing")]
    Missing,
    /// It changed, and is in `.quarantine` now.
    #[error("{0}")]
    Rotted(Rot),
    /// The disk cannot read it.
    #[error("the disk cannot read it: {0}")]
    Unreadable(String),
}

/// How far a scrub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrubState {
    /// There is more to read.
    Going,
    /// Everything was read.
    Done,
}

/// A walk over the artifacts of all installed releases.
pub struct Scrub {
    shared: Arc<Shared>,
    /// The artifacts that are left, each once, with the releases that need it.
    left: Vec<(Artifact, Vec<(ReleaseId, Artifact)>)>,
    reading: Option<Reading>,
    rotted: Vec<Rotted>,
}

/// The artifact that is being read.
struct Reading {
    file: File,
    found: FileFacts,
    started_ns: i128,
    hasher: Sha256Hasher,
    offset: u64,
}

/// What came of one artifact.
enum Outcome {
    Good,
    Bad(Fault),
    More,
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrub")
            .field("left", &self.left.len())
            .field("rotted", &self.rotted)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// Begins to verify every artifact of every installed release that is trusted. Reads no artifact yet.
    ///
    /// # Errors
    /// [`DiskError`] when the releases cannot be listed.
    pub fn scrub(&self) -> Result<Scrub, DiskError> {
        let shared = &self.shared;
        let mut left: Vec<(Artifact, Vec<(ReleaseId, Artifact)>)> = Vec::new();
        for release in record::release_ids(&shared.tree)? {
            let record = match Record::read(&shared.tree, &shared.trust(), &release) {
                Ok(record) => record,
                Err(ReleaseError::Disk(error)) => return Err(error),
                // It is not booted, and who would fetch it?
                Err(_) => continue,
            };
            for artifact in record.manifest.manifest().artifacts() {
                let user = (release.clone(), artifact.clone());
                match left.iter_mut().find(|(other, _)| other.sha256 == artifact.sha256) {
                    Some((_, users)) => users.push(user),
                    None => left.push((artifact, vec![user])),
                }
            }
        }
        // From the end, so that the first release comes first.
        left.reverse();
        Ok(Scrub {
            shared: Arc::clone(shared),
            left,
            reading: None,
            rotted: Vec::new(),
        })
    }
}

impl Scrub {
    /// Reads about `bytes` more, and a little at least.
    ///
    /// # Errors
    /// [`DiskError`] when the disk fails otherwise than in reading an artifact; the step can be tried again.
    pub fn step(&mut self, bytes: u64) -> Result<ScrubState, DiskError> {
        let mut budget = bytes;
        loop {
            let Some((artifact, _)) = self.left.last() else {
                return Ok(ScrubState::Done);
            };
            let artifact = artifact.clone();
            match self.read_on(&artifact, &mut budget)? {
                Outcome::More => {}
                Outcome::Good => self.next(None)?,
                Outcome::Bad(fault) => self.next(Some(fault))?,
            }
            if budget == 0 {
                return Ok(if self.left.is_empty() {
                    ScrubState::Done
                } else {
                    ScrubState::Going
                });
            }
        }
    }

    /// What was found so far. Fetch and install these releases again.
    pub fn rotted(&self) -> &[Rotted] {
        &self.rotted
    }

    /// What was found.
    pub fn into_rotted(self) -> Vec<Rotted> {
        self.rotted
    }

    /// Goes on to the next artifact, reporting this one for each release that still needs it.
    fn next(&mut self, fault: Option<Fault>) -> Result<(), DiskError> {
        let users = match (&fault, self.left.last()) {
            (Some(_), Some((_, users))) => {
                let installed = record::release_ids(&self.shared.tree)?;
                users
                    .iter()
                    .filter(|(release, _)| installed.contains(release))
                    .cloned()
                    .collect()
            }
            _ => Vec::new(),
        };
        let report = |(release, artifact)| {
            let fault = fault.clone()?;
            Some(Rotted {
                release,
                artifact,
                fault,
            })
        };
        self.rotted.extend(users.into_iter().filter_map(report));
        self.left.pop();
        self.reading = None;
        Ok(())
    }

    fn read_on(&mut self, artifact: &Artifact, budget: &mut u64) -> Result<Outcome, DiskError> {
        let shared = Arc::clone(&self.shared);
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => match blob::open_unread(&shared.tree, artifact) {
                Ok((file, found)) => self.reading.insert(Reading {
                    file,
                    found,
                    started_ns: shared.tree.disk().clock_ns(),
                    hasher: Sha256Hasher::new(),
                    offset: 0,
                }),
                Err(BlobFault::Missing) => {
                    *budget = budget.saturating_sub(1);
                    return Ok(Outcome::Bad(Fault::Missing));
                }
                Err(BlobFault::Rotted(rotten)) => {
                    *budget = budget.saturating_sub(1);
                    return quarantine(&shared, &artifact.sha256, &rotten.found, rotten.rot);
                }
                Err(BlobFault::Unreadable { error, .. } | BlobFault::Disk(error)) => return Err(error),
            },
        };
        let mut chunk = vec![0; usize::try_from((*budget).clamp(1, CHUNK_BYTES)).unwrap_or(1)];
        let read = match shared
            .tree
            .disk()
            .read_at(&reading.file, &mut chunk, reading.offset)
        {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Outcome::More),
            Err(error) => {
                *budget = budget.saturating_sub(1);
                return Ok(Outcome::Bad(Fault::Unreadable(error.to_string())));
            }
        };
        reading.hasher.update(chunk.get(..read).unwrap_or_default());
        reading.offset += read as u64;
        *budget = budget.saturating_sub((read as u64).max(1));
        if read > 0 && reading.offset <= artifact.size_bytes {
            return Ok(Outcome::More);
        }
        let (found, started_ns) = (reading.found, reading.started_ns);
        let digest = std::mem::take(&mut reading.hasher).finish();
        if digest == artifact.sha256 {
            shared.verified.remember(&artifact.sha256, &found, started_ns);
            return Ok(Outcome::Good);
        }
        let announced = artifact.sha256;
        let rot = Rot::WrongDigest {
            found: digest,
            announced,
        };
        quarantine(&shared, &artifact.sha256, &found, rot)
    }
}

fn quarantine(
    shared: &Shared,
    digest: &Sha256Digest,
    found: &FileFacts,
    rot: Rot,
) -> Result<Outcome, DiskError> {
    let _changing = shared.changing();
    let tree = &shared.tree;
    // Somebody may have put a good file in its place while this one was read.
    let now = tree.facts_at(&tree::blob(digest))?;
    if now.is_some_and(|now| !now.is_same_file(found)) {
        return Ok(Outcome::Good);
    }
    blob::quarantine(tree, digest, found)?;
    Ok(Outcome::Bad(Fault::Rotted(rot)))
}
