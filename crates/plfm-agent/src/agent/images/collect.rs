//! What goes: all that nothing runs from, when it is asked for; the images that were used longest ago, when there is no
//! room for another one.
//!
//! An instance has its image until its VM is gone, and says so in its record: a file that is held is not removed, nor
//! one that a record names. (At the agent's start nothing runs, for it ends what an earlier one left.)

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::SystemTime;

use plfm_api::{CollectedImages, ImageDigest};
use plfm_rootdisk::{ImageKey, Removed};
use tracing::info;

use super::refusal::store_error;
use super::{BUILDS_MAX, Images};
use crate::agent::Agent;
use crate::problem::ApiError;

/// What images unpack to, in parts of what they are sent as: 2 to 3 is usual.
const UNPACKS_TO: u64 = 4;

/// A disk, when it is decided what goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    key: ImageKey,
    bytes: u64,
    used_at: Option<SystemTime>,
}

impl Agent {
    /// Removes the images that nothing runs from. Blocking.
    pub fn collect_images(&self) -> Result<CollectedImages, ApiError> {
        let images = &self.0.images;
        let _alone = images.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = self.keys_in_use()?;
        let removed = images.store.gc(&in_use).map_err(|error| store_error(&error))?;
        log(&removed);
        let digest = |key: &ImageKey| ImageDigest(key.image);
        Ok(CollectedImages {
            removed: removed.removed.iter().map(digest).collect(),
            kept: removed.held.iter().chain(&in_use).map(digest).collect(),
            freed_bytes: removed.bytes,
        })
    }

    /// Removes what was used longest ago until an image of so many bytes, as they are sent, is likely to have room; gives
    /// what one build may unpack to. Blocking.
    pub(super) fn make_room(&self, compressed_bytes: u64) -> Result<u64, ApiError> {
        let images = &self.0.images;
        let _alone = images.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        let (stored, room) = images.look()?;
        let wanted = compressed_bytes.saturating_mul(UNPACKS_TO);
        if room >= wanted {
            return Ok(room);
        }
        let in_use = self.keys_in_use()?;
        let all: BTreeSet<ImageKey> = stored.iter().map(|stored| stored.key).collect();
        let missing = wanted.saturating_sub(room).saturating_mul(BUILDS_MAX as u64);
        let leaving = oldest(stored, &in_use, missing);
        if leaving.is_empty() {
            return Ok(room);
        }
        let staying = all.difference(&leaving).copied().collect();
        let removed = images.store.gc(&staying).map_err(|error| store_error(&error))?;
        log(&removed);
        images.look().map(|(_, room)| room)
    }

    fn keys_in_use(&self) -> Result<BTreeSet<ImageKey>, ApiError> {
        let running: BTreeSet<_> = self.running_images().collect();
        let mut keys = BTreeSet::new();
        for image in running {
            let stored = self
                .0
                .images
                .store
                .of_image(image)
                .map_err(|error| store_error(&error))?;
            keys.extend(stored.iter().map(|stored| stored.key()));
        }
        Ok(keys)
    }

    /// How many disks there are, and what they take. Blocking.
    pub(in crate::agent) fn images_size(&self) -> (u64, u64) {
        let stored = self.0.images.store.list().unwrap_or_default();
        let bytes = stored
            .iter()
            .fold(0u64, |sum, stored| sum.saturating_add(stored.disk_bytes()));
        (stored.len() as u64, bytes)
    }
}

impl Images {
    /// The disks, and what one build may unpack to: as much as the store may grow by and the file system has room for,
    /// where a build takes its image twice, shared among the builds that there may be at once.
    fn look(&self) -> Result<(Vec<Candidate>, u64), ApiError> {
        let stored = self.store.list().map_err(|error| store_error(&error))?;
        let used = stored
            .iter()
            .fold(0u64, |sum, stored| sum.saturating_add(stored.disk_bytes()));
        let left = self.store_bytes_max.saturating_sub(used);
        let free = match self.store.free_bytes() {
            Ok(free) => free / 2,
            Err(error) => return Err(store_error(&error)),
        };
        let candidates = stored.iter().map(|stored| Candidate {
            key: stored.key(),
            bytes: stored.disk_bytes(),
            used_at: stored.used_at(),
        });
        Ok((candidates.collect(), left.min(free) / BUILDS_MAX as u64))
    }
}

/// The disks that were used longest ago and together have so many bytes, or all that may go.
fn oldest(mut stored: Vec<Candidate>, in_use: &BTreeSet<ImageKey>, bytes: u64) -> BTreeSet<ImageKey> {
    stored.retain(|candidate| !in_use.contains(&candidate.key));
    stored.sort_by_key(|candidate| candidate.used_at);
    let mut sum = 0u64;
    let leaving = stored.into_iter().take_while(|candidate| {
        let is_needed = sum < bytes;
        sum = sum.saturating_add(candidate.bytes);
        is_needed
    });
    leaving.map(|candidate| candidate.key).collect()
}

fn log(removed: &Removed) {
    for key in &removed.removed {
        info!(image = %key.image, "an image that nothing runs from was removed");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plfm_release::Sha256Digest;
    use plfm_rootdisk::DiskFormat;

    use super::*;

    fn candidate(name: &str, second: u64) -> Candidate {
        let key = ImageKey {
            image: Sha256Digest::of(name.as_bytes()),
            format: DiskFormat::Erofs,
            builder: 1,
        };
        Candidate {
            key,
            bytes: 10,
            used_at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second)),
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_and_no_more_than_is_needed() {
        let [old, older, new] = [candidate("a", 2), candidate("b", 1), candidate("c", 3)];
        let leaving = |in_use: &[ImageKey], bytes| {
            oldest(vec![old, older, new], &in_use.iter().copied().collect(), bytes)
        };
        assert_eq!(leaving(&[], 0), [].into());
        assert_eq!(leaving(&[], 10), [older.key].into());
        assert_eq!(leaving(&[], 11), [older.key, old.key].into());
        assert_eq!(leaving(&[older.key], 10), [old.key].into());
        assert_eq!(leaving(&[older.key, old.key, new.key], 10), [].into());
    }
}
