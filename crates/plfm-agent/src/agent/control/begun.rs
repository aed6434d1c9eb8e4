//! How many boots of a bounded canary were begun on this host.
//!
//! ```text
//! choose ──> the release is verified ──> count: synced in begun.json ──> the VM is made
//!                                          └── used up, or cannot be written: choose again, without the canary
//! ```
//!
//! Invariant: of each rollout no more boots begin than its bound allows, whatever dies when and however many launches race.
//! So a boot is on disk before anything of its VM exists, the count never falls, and counting is one step under one lock.
//! An agent that dies right after it has wasted one boot of the rollout.
//!
//! A rollout is known by the generation it began in. A later one has a count of its own and ends the earlier's; of one
//! that is earlier than what is counted no boot begins, as its count is gone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use plfm_api::control::Generation;
use plfm_release::ReleaseId;
use plfm_rollout::selection::{Begun, Bound};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::agent::read_bounded;
use crate::durable;

/// The file, beside those of the host's identity.
pub const FILE: &str = "begun.json";
/// Largest file, in bytes: one release is its usual content.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Releases of one rollout, at most. It has one candidate; a control plane that names more and more is not followed.
const RELEASES_MAX: usize = 16;

/// Boots that were begun since a rollout began. On disk as it is here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    since: u64,
    boots: BTreeMap<ReleaseId, u32>,
}

/// Why a boot may not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// As many were begun as may.
    #[error("as many boots were begun as each host may begin")]
    UsedUp,
    /// This count cannot be gone on with.
    #[error("{0}")]
    Uncountable(&'static str),
    /// The count cannot be written.
    #[error("cannot write the count of the canary's boots")]
    Disk(#[source] io::Error),
}

/// The count and its file.
#[derive(Debug)]
pub struct BegunBoots {
    dir: PathBuf,
    counts: Mutex<Counts>,
}

const EARLIER: &str = "it belongs to an earlier rollout than what is counted here";
const TOO_MANY: &str = "the rollout named too many releases";

impl Counts {
    fn begun(&self, release: &ReleaseId, since: u64) -> Result<u32, BeginError> {
        match self.since.cmp(&since) {
            std::cmp::Ordering::Less => Ok(0),
            std::cmp::Ordering::Equal => match self.boots.get(release) {
                Some(boots) => Ok(*boots),
                None if self.boots.len() < RELEASES_MAX => Ok(0),
                None => Err(BeginError::Uncountable(TOO_MANY)),
            },
            std::cmp::Ordering::Greater => Err(BeginError::Uncountable(EARLIER)),
        }
    }

    /// The counts with one boot more.
    fn with_one(&self, release: &ReleaseId, bound: Bound) -> Result<Self, BeginError> {
        let boots = self.begun(release, bound.since)?;
        if boots >= bound.boots_each {
            return Err(BeginError::UsedUp);
        }
        let mut next = match self.since == bound.since {
            true => self.clone(),
            false => Self {
                since: bound.since,
                boots: BTreeMap::new(),
            },
        };
        next.boots.insert(release.clone(), boots.saturating_add(1));
        Ok(next)
    }
}

impl BegunBoots {
    /// Goes on with the count in `dir`. Where it cannot be read, nothing of what the host may have been told up to now
    /// (`applied`, the generation that it goes by) is begun any more: a later rollout is. Blocking.
    pub fn open(dir: &Path, applied: Generation) -> io::Result<Self> {
        let path = dir.join(FILE);
        let counts = match read_bounded(&path, FILE_BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!(
                    path = %path.display(),
                    "the count of a canary's boots cannot be read, so this host begins none of it until another rollout: {error}"
                );
                Counts {
                    since: applied.0.saturating_add(1),
                    boots: BTreeMap::new(),
                }
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Counts::default(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            dir: dir.to_owned(),
            counts: Mutex::new(counts),
        })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many boots of `release` were begun: what a choice goes by, which [`BegunBoots::begin`] may still refuse.
    pub fn begun(&self, release: &ReleaseId, bound: Bound) -> Begun {
        match self.counts().begun(release, bound.since) {
            Ok(boots) => Begun::Boots(boots),
            Err(error) => Begun::Uncountable(error.to_string()),
        }
    }

    /// Begins one boot more, on disk when this returns. Blocking.
    pub fn begin(&self, release: &ReleaseId, bound: Bound) -> Result<(), BeginError> {
        let mut counts = self.counts();
        let next = counts.with_one(release, bound)?;
        // A write that fails leaves this number on disk or the one before: both are no less than what was begun.
        durable::replace_json(&self.dir, FILE, &next).map_err(BeginError::Disk)?;
        *counts = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
