//! Removing what nothing leads to any more.
//!
//! Each snapshot names the one that it replaced, so from the current one back the committed snapshots are known, and
//! when each was replaced: when its successor was put. A host that read the timestamp while an old snapshot was the
//! current one still finds everything it leads to, for a grace period after it was replaced.
//!
//! ```text
//! kept: root files · snapshots that were current within the grace · targets files they name · targets those name
//!       · whatever was put within the grace (a publisher may be about to lead to it)
//! ```

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tough::schema::{Signed, Snapshot, Targets};

use crate::commit::PREVIOUS_MEMBER;
use crate::error::RegistryError;
use crate::layout::{METADATA_DIR, TARGETS_DIR, target_file, versioned_file};
use crate::repository::{Repository, digest_text, targets_version};
use crate::role::{METADATA_BYTES_MAX, TARGETS_BYTES_MAX, parse};
use crate::store::Listed;

/// Shortest grace: the longest time that a publisher may need between its first file and its last.
pub const GRACE_MIN: SignedDuration = SignedDuration::from_hours(24);
/// Grace by default: longer than a timestamp lives, so that whoever holds a valid one finds what it leads to.
pub const GRACE_DEFAULT: SignedDuration = SignedDuration::from_hours(8 * 24);
/// Most snapshots walked back: a change a minute for a week.
const SNAPSHOTS_MAX: usize = 10_080;

/// What nothing leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// Files to remove, by name.
    pub files: Vec<GarbageFile>,
    /// Their size, in bytes.
    pub size_bytes: u64,
    /// How many files stay.
    pub kept: usize,
}

/// A file that nothing leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GarbageFile {
    /// Its name.
    pub name: String,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// When it was put there.
    pub modified: Timestamp,
}

impl Repository {
    /// What can be removed at `now`, with nothing changed.
    ///
    /// # Errors
    /// [`RegistryError`] when the repository can't be read; then nothing should be removed.
    pub async fn find_garbage(
        &self,
        now: Timestamp,
        grace: SignedDuration,
    ) -> Result<Garbage, RegistryError> {
        let before = now
            .checked_sub(grace.max(GRACE_MIN))
            .map_err(|_| RegistryError::OutOfRange)?;
        let led_to = self.led_to(before).await?;
        let mut all = self.store.list(METADATA_DIR).await?;
        all.extend(self.store.list(TARGETS_DIR).await?);
        let total = all.len();
        let mut files: Vec<_> = all
            .into_iter()
            .filter(|file| is_removable(file, before) && !led_to.contains(&file.name))
            .map(|file| GarbageFile {
                name: file.name,
                size_bytes: file.size_bytes,
                modified: file.modified,
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Garbage {
            size_bytes: files.iter().map(|file| file.size_bytes).sum(),
            kept: total.saturating_sub(files.len()),
            files,
        })
    }

    /// Removes what [`Repository::find_garbage`] found. A file that was put anew meanwhile stays.
    ///
    /// # Errors
    /// [`RegistryError`] when the store fails; the rest is removed by the next call.
    pub async fn remove_garbage(&self, garbage: &Garbage) -> Result<usize, RegistryError> {
        let mut removed = 0_usize;
        for file in &garbage.files {
            let there = self.store.head(&file.name).await?;
            if there.is_some_and(|there| there.modified == file.modified) {
                self.store.delete(&file.name).await?;
                removed = removed.saturating_add(1);
            }
        }
        Ok(removed)
    }

    /// Names of everything that a timestamp leads to which was current at `since` or later.
    async fn led_to(&self, since: Timestamp) -> Result<BTreeSet<String>, RegistryError> {
        let mut names = BTreeSet::new();
        let mut snapshot = self.snapshot.clone();
        let mut targets_seen = BTreeSet::new();
        for _ in 0..SNAPSHOTS_MAX {
            let name = versioned_file("snapshot", snapshot.signed.version.get());
            if let Some(version) = targets_version(&snapshot.signed)
                && targets_seen.insert(version)
            {
                self.add_targets(&versioned_file("targets", version.get()), &mut names)
                    .await?;
            }
            let put = self.store.head(&name).await?.map(|file| file.modified);
            names.insert(name);
            // The one before was current until this one was put.
            if put.is_none_or(|put| put < since) {
                break;
            }
            match self.previous(&snapshot.signed).await? {
                Some(previous) => snapshot = previous,
                None => break,
            }
        }
        Ok(names)
    }

    async fn previous(&self, snapshot: &Snapshot) -> Result<Option<Signed<Snapshot>>, RegistryError> {
        let previous = snapshot._extra.get(PREVIOUS_MEMBER);
        let Some(previous) = previous.and_then(serde_json::Value::as_u64) else {
            return Ok(None);
        };
        // Numbers only fall, so the walk ends.
        if previous >= snapshot.version.get() {
            return Ok(None);
        }
        let name = versioned_file("snapshot", previous);
        match self.store.get(&name, METADATA_BYTES_MAX).await? {
            Some(object) => parse(&name, &object.bytes).map(Some),
            None => Ok(None),
        }
    }

    async fn add_targets(&self, name: &str, names: &mut BTreeSet<String>) -> Result<(), RegistryError> {
        let Some(object) = self.store.get(name, TARGETS_BYTES_MAX).await? else {
            return Ok(());
        };
        let targets: Signed<Targets> = parse(name, &object.bytes)?;
        names.insert(name.to_owned());
        for (target_name, target) in &targets.signed.targets {
            names.insert(target_file(&digest_text(target), target_name.resolved()));
        }
        Ok(())
    }
}

/// Whether a file is of a kind that is removed at all, and old enough.
fn is_removable(file: &Listed, before: Timestamp) -> bool {
    let versioned = file.name.ends_with(".snapshot.json") || file.name.ends_with(".targets.json");
    let in_targets = file
        .name
        .strip_prefix(TARGETS_DIR)
        .is_some_and(|rest| rest.starts_with('/'));
    (versioned || in_targets) && file.modified < before
}
