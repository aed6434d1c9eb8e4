//! Which releases a repository has, and had: listing and yanking.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use plfm_release::{Channel, KeyId, ReleaseId, Sha256Digest};
use serde::{Deserialize, Serialize};
use tough::schema::{Role, Target, Targets};

use crate::commit::{Change, Signing};
use crate::error::RegistryError;
use crate::publish::{find_target, target_name, whole_seconds};
use crate::repository::{Repository, digest_text};
use crate::role::{RoleName, expiry, role_public_keys};

/// Where a manifest's target says what release it is of ("custom", TUF specification section 4.5).
pub(crate) const RELEASE_MEMBER: &str = "plfm";
/// Where the targets metadata keeps what was yanked.
const YANKED_MEMBER: &str = "x-plfm-yanked";
/// Most yanked releases remembered: an entry has half a KiB, and every host reads them.
pub const YANKED_MAX: usize = 1024;
/// Longest reason, in bytes: a sentence or two, and a link.
pub const REASON_BYTES_MAX: usize = 512;

/// What a manifest's target says of its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedRelease {
    /// The release.
    #[serde(rename = "release")]
    pub id: ReleaseId,
    /// The key that signed its manifest.
    pub key_id: KeyId,
    /// Its channel.
    pub channel: Channel,
    /// When it was published.
    pub published_at: Timestamp,
    /// The targets that belong to it, the manifest among them.
    pub files: Vec<String>,
}

/// A release that is not offered any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct YankedRelease {
    /// The release.
    #[serde(rename = "release")]
    pub id: ReleaseId,
    /// When it was yanked.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// When it had been published.
    pub published_at: Timestamp,
    /// What its names stood for: they stand for nothing else ever.
    pub files: BTreeMap<String, Sha256Digest>,
}

/// What yanking did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Yanked {
    /// The release.
    pub release: ReleaseId,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// It was yanked before, which stays as it was.
    pub already: bool,
    /// Targets that are gone.
    pub removed: Vec<String>,
    /// Targets that stay because another release has them.
    pub shared: Vec<String>,
}

/// What a repository holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The releases on offer, in order of publication.
    pub releases: Vec<ListedRelease>,
    /// Those that were yanked.
    pub yanked: Vec<YankedRelease>,
    /// The version of the keyring.
    pub keyring_version: u64,
    /// The roles, root first.
    pub roles: Vec<ListedRole>,
}

/// A release on offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedRelease {
    /// What its manifest's target says.
    #[serde(flatten)]
    pub release: PublishedRelease,
    /// The size of all its targets, in bytes; shared ones count for each release.
    pub size_bytes: u64,
    /// Whether the key may sign no more: hosts refuse the release.
    pub key_revoked: bool,
}

/// A role of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedRole {
    /// Which.
    pub role: RoleName,
    /// The version of its metadata.
    pub version: u64,
    /// When the metadata ends.
    pub expires: Timestamp,
    /// Whether it has ended.
    pub expired: bool,
    /// The ids of its public keys, as release keys have them.
    pub keys: Vec<KeyId>,
    /// How many of them have to sign.
    pub threshold: u64,
}

impl PublishedRelease {
    /// What `target` says, if it is that of a manifest.
    pub(crate) fn of(target: &Target) -> Option<Self> {
        serde_json::from_value(target.custom.get(RELEASE_MEMBER)?.clone()).ok()
    }
}

/// The releases that targets metadata offers, in order of publication.
pub(crate) fn published_releases(targets: &Targets) -> Vec<PublishedRelease> {
    let mut releases: Vec<_> = targets
        .targets
        .values()
        .filter_map(PublishedRelease::of)
        .collect();
    releases.sort_by(|a, b| (a.published_at, &a.id).cmp(&(b.published_at, &b.id)));
    releases
}

/// The releases that targets metadata remembers as yanked, oldest first.
pub(crate) fn yanked_releases(targets: &Targets) -> Vec<YankedRelease> {
    let value = targets._extra.get(YANKED_MEMBER).cloned();
    value
        .and_then(|value| serde_json::from_value(value).ok())
        .unwrap_or_default()
}

impl Repository {
    /// The releases on offer, in order of publication.
    pub fn releases(&self) -> Vec<PublishedRelease> {
        published_releases(&self.targets.signed)
    }

    /// The releases that were yanked, in order.
    pub fn yanked(&self) -> Vec<YankedRelease> {
        yanked_releases(&self.targets.signed)
    }

    /// What the repository holds, and what is due, at `now`.
    ///
    /// # Errors
    /// [`RegistryError`] when the keyring is not to be trusted.
    pub async fn listing(&self, now: Timestamp) -> Result<Listing, RegistryError> {
        let keyring = self.keyring().await?;
        let releases = self.releases().into_iter().map(|release| {
            let sizes = release
                .files
                .iter()
                .filter_map(|file| find_target(&self.targets.signed, file).map(|target| target.length));
            let entry = keyring.keyring().get(release.key_id);
            ListedRelease {
                size_bytes: sizes.sum(),
                key_revoked: entry.is_none_or(|entry| entry.revoked.is_some()),
                release,
            }
        });
        Ok(Listing {
            releases: releases.collect(),
            yanked: self.yanked(),
            keyring_version: keyring.version(),
            roles: vec![
                self.listed_role(RoleName::Root, &self.root.signed, now),
                self.listed_role(RoleName::Targets, &self.targets.signed, now),
                self.listed_role(RoleName::Snapshot, &self.snapshot.signed, now),
                self.listed_role(RoleName::Timestamp, &self.timestamp.signed, now),
            ],
        })
    }

    fn listed_role<R: Role>(&self, role: RoleName, metadata: &R, now: Timestamp) -> ListedRole {
        let (keys, threshold) = role_public_keys(&self.root.signed, role);
        let expires = expiry(metadata);
        ListedRole {
            role,
            version: metadata.version().get(),
            expires,
            expired: expires <= now,
            keys: keys.iter().map(plfm_release::PublicKey::id).collect(),
            threshold: threshold.get(),
        }
    }

    /// Takes a release off the offer. Targets that another release has stay; the rest can be fetched by who knew them
    /// until `gc` removes them.
    ///
    /// # Errors
    /// [`RegistryError`] when there is no such release, or the change can't be made.
    pub async fn yank(
        &mut self,
        release: &ReleaseId,
        reason: &str,
        signing: &Signing<'_>,
    ) -> Result<Yanked, RegistryError> {
        self.check_root_valid(signing.now)?;
        let mut yanked = self.yanked();
        if let Some(before) = yanked.iter().find(|yanked| yanked.id == *release) {
            return Ok(already(before));
        }
        check_limit("bytes of a reason", reason.len(), REASON_BYTES_MAX)?;
        check_limit("yanked releases", yanked.len().saturating_add(1), YANKED_MAX)?;
        let mut targets = self.targets.signed.clone();
        let (mine, others): (Vec<_>, Vec<_>) = self
            .releases()
            .into_iter()
            .partition(|other| other.id == *release);
        let mine = mine
            .into_iter()
            .next()
            .ok_or_else(|| RegistryError::NoSuchRelease {
                release: release.clone(),
            })?;
        let elsewhere: BTreeSet<String> = others.into_iter().flat_map(|other| other.files).collect();
        let (mut removed, mut shared, mut files) = (Vec::new(), Vec::new(), BTreeMap::new());
        for file in mine.files {
            let name = target_name(&file)?;
            let digest = targets
                .targets
                .get(&name)
                .and_then(|target| digest_text(target).parse().ok());
            files.extend(digest.map(|digest| (file.clone(), digest)));
            if elsewhere.contains(&file) {
                shared.push(file);
            } else {
                targets.targets.remove(&name);
                removed.push(file);
            }
        }
        let record = YankedRelease {
            id: release.clone(),
            at: whole_seconds(signing.now),
            reason: reason.to_owned(),
            published_at: mine.published_at,
            files,
        };
        let at = record.at;
        yanked.push(record);
        // Texts only: the serializer has nothing to fail on.
        let value = serde_json::to_value(yanked).unwrap_or_default();
        targets._extra.insert(YANKED_MEMBER.to_owned(), value);
        self.commit(Change::Targets(Box::new(targets)), signing).await?;
        Ok(Yanked {
            release: release.clone(),
            reason: reason.to_owned(),
            at,
            already: false,
            removed,
            shared,
        })
    }
}

fn already(before: &YankedRelease) -> Yanked {
    Yanked {
        release: before.id.clone(),
        reason: before.reason.clone(),
        at: before.at,
        already: true,
        removed: Vec::new(),
        shared: Vec::new(),
    }
}

fn check_limit(what: &'static str, found: usize, max: usize) -> Result<(), RegistryError> {
    if found > max {
        Err(RegistryError::LimitReached { what, found, max })
    } else {
        Ok(())
    }
}
