//! Publishing a release: its files become targets, under names that are never given to other bytes.

use jiff::Timestamp;
use plfm_release::{
    Artifact, ArtifactKind, KeyId, Manifest, ReleaseId, Sha256Digest, SignedManifest, VerifyPolicy,
};
use serde::Serialize;
use tough::TargetName;
use tough::schema::{Target, Targets};

use crate::commit::{Blob, Change, Signing};
use crate::error::RegistryError;
use crate::layout::{KEYRING_TARGET, manifest_target, provenance_target, sbom_target};
use crate::releases::{PublishedRelease, RELEASE_MEMBER, yanked_releases};
use crate::repository::{Repository, digest_text};
use crate::role::hashes;

/// Most targets of a repository: some thousand releases. All their names and digests are in one file, which every
/// host reads when it changes.
pub const TARGETS_MAX: usize = 4096;

/// The files of a release, as they are to be published.
#[derive(Debug, Clone)]
pub struct ReleaseFiles {
    /// The signed manifest.
    pub manifest: Vec<u8>,
    /// The kernel image.
    pub kernel: Vec<u8>,
    /// The initramfs.
    pub initramfs: Vec<u8>,
    /// The provenance, if there is one.
    pub provenance: Option<Vec<u8>>,
    /// The bill of materials, if there is one.
    pub sbom: Option<Vec<u8>>,
}

/// What publishing did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The release.
    pub release: ReleaseId,
    /// The key that signed its manifest.
    pub key_id: KeyId,
    /// Targets that are new.
    pub added: Vec<PublishedTarget>,
    /// Targets that were there with the same bytes.
    pub kept: Vec<PublishedTarget>,
    /// The version of the targets metadata before.
    pub targets_version_before: u64,
    /// And after; the same when everything was there.
    pub targets_version: u64,
}

/// One target of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishedTarget {
    /// Its name.
    pub name: String,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// Its digest.
    pub sha256: Sha256Digest,
}

impl Repository {
    /// Publishes a release. Its manifest must be signed by a key of the repository's keyring, its artifacts must be
    /// those of the manifest, and no name of it may stand for other bytes, now or before a yank.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing is published then.
    pub async fn publish(
        &mut self,
        files: &ReleaseFiles,
        signing: &Signing<'_>,
    ) -> Result<Published, RegistryError> {
        self.check_root_valid(signing.now)?;
        let signed = SignedManifest::parse(&files.manifest).map_err(RegistryError::Manifest)?;
        let policy = VerifyPolicy {
            channel: signed.untrusted().channel.clone(),
            arch: signed.untrusted().arch,
            at: signing.now,
        };
        let keyring = self.keyring().await?.into_keyring();
        let verified = keyring
            .verify(signed, &policy)
            .map_err(RegistryError::ReleaseUntrusted)?;
        let manifest = verified.manifest();
        check_artifacts(manifest, files)?;
        let release = manifest.release_id();
        self.check_not_yanked(&release)?;

        let named = named(manifest, files);
        let mut targets = self.targets.signed.clone();
        let (mut added, mut kept) = (Vec::new(), Vec::new());
        for (name, bytes) in &named {
            let target = published_target(name, bytes);
            if self.check_name(&target)? {
                kept.push(target);
            } else {
                targets.targets.insert(target_name(name)?, plain_target(&target));
                added.push(target);
            }
        }
        let record = PublishedRelease {
            id: release.clone(),
            key_id: verified.key_id(),
            channel: manifest.channel.clone(),
            published_at: whole_seconds(signing.now),
            files: named.iter().map(|(name, _)| name.clone()).collect(),
        };
        set_record(&mut targets, &record)?;
        check_count(&targets)?;

        let blobs: Vec<_> = named.iter().map(|(name, bytes)| Blob { name, bytes }).collect();
        self.upload(&blobs).await?;
        let targets_version_before = self.targets.signed.version.get();
        if !added.is_empty() {
            self.commit(Change::Targets(Box::new(targets)), signing).await?;
        }
        Ok(Published {
            release,
            key_id: verified.key_id(),
            added,
            kept,
            targets_version_before,
            targets_version: self.targets.signed.version.get(),
        })
    }

    fn check_not_yanked(&self, release: &ReleaseId) -> Result<(), RegistryError> {
        let yanked = yanked_releases(&self.targets.signed);
        match yanked.into_iter().find(|yanked| yanked.id == *release) {
            Some(yanked) => Err(RegistryError::Yanked {
                release: Box::new(yanked.id),
                at: yanked.at,
                reason: yanked.reason,
            }),
            None => Ok(()),
        }
    }

    /// Whether the target is there already; that its name stands for nothing else.
    fn check_name(&self, offered: &PublishedTarget) -> Result<bool, RegistryError> {
        let taken = |found: String| RegistryError::NameTaken {
            name: offered.name.clone(),
            found,
            offered: offered.sha256,
        };
        let digest = offered.sha256.to_string();
        for yanked in yanked_releases(&self.targets.signed) {
            if let Some(found) = yanked.files.get(&offered.name)
                && found.to_string() != digest
            {
                return Err(taken(found.to_string()));
            }
        }
        let there = find_target(&self.targets.signed, &offered.name);
        match there.map(digest_text) {
            None => Ok(false),
            Some(found) if found == digest => Ok(true),
            Some(found) => Err(taken(found)),
        }
    }
}

fn check_artifacts(manifest: &Manifest, files: &ReleaseFiles) -> Result<(), RegistryError> {
    let check = |artifact: Artifact| {
        let found = Sha256Digest::of(artifact_bytes(files, artifact.kind));
        if found == artifact.sha256 {
            Ok(())
        } else {
            Err(RegistryError::ArtifactDigest {
                name: artifact.name.to_string(),
                found,
                expected: artifact.sha256,
            })
        }
    };
    manifest.artifacts().into_iter().try_for_each(check)
}

fn artifact_bytes(files: &ReleaseFiles, kind: ArtifactKind) -> &[u8] {
    match kind {
        ArtifactKind::Kernel => &files.kernel,
        ArtifactKind::Initramfs => &files.initramfs,
    }
}

/// The targets of a release by name, the manifest first.
fn named<'a>(manifest: &Manifest, files: &'a ReleaseFiles) -> Vec<(String, &'a [u8])> {
    let release = manifest.release_id();
    let mut named = vec![(manifest_target(&release), files.manifest.as_slice())];
    for artifact in manifest.artifacts() {
        named.push((artifact.name.to_string(), artifact_bytes(files, artifact.kind)));
    }
    let optional = [
        (provenance_target(&release), &files.provenance),
        (sbom_target(&release), &files.sbom),
    ];
    for (name, bytes) in optional {
        if let Some(bytes) = bytes {
            named.push((name, bytes));
        }
    }
    named
}

fn published_target(name: &str, bytes: &[u8]) -> PublishedTarget {
    PublishedTarget {
        name: name.to_owned(),
        size_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        sha256: Sha256Digest::of(bytes),
    }
}

/// Makes the manifest's target say what release it is of, when it was published and what else belongs to it.
fn set_record(targets: &mut Targets, record: &PublishedRelease) -> Result<(), RegistryError> {
    let name = target_name(&manifest_target(&record.id))?;
    if let Some(target) = targets.targets.get_mut(&name) {
        let mut record = record.clone();
        if let Some(before) = PublishedRelease::of(target) {
            record.published_at = before.published_at;
            let more = before
                .files
                .into_iter()
                .filter(|file| !record.files.contains(file));
            let more: Vec<_> = more.collect();
            record.files.extend(more);
        }
        // Texts only: the serializer has nothing to fail on.
        let value = serde_json::to_value(record).unwrap_or_default();
        target.custom.insert(RELEASE_MEMBER.to_owned(), value);
    }
    Ok(())
}

pub(crate) fn plain_target(target: &PublishedTarget) -> Target {
    Target {
        length: target.size_bytes,
        hashes: hashes(&target.sha256),
        custom: Default::default(),
        _extra: Default::default(),
    }
}

/// The target of the keyring with this content.
pub(crate) fn keyring_target(bytes: &[u8]) -> Target {
    plain_target(&published_target(KEYRING_TARGET, bytes))
}

pub(crate) fn find_target<'a>(targets: &'a Targets, name: &str) -> Option<&'a Target> {
    let mut matching = targets.targets.iter();
    matching
        .find(|(target, _)| target.resolved() == name)
        .map(|(_, target)| target)
}

pub(crate) fn target_name(name: &str) -> Result<TargetName, RegistryError> {
    TargetName::new(name).map_err(|_| crate::repository::contradiction(name, "it is no target's name"))
}

fn check_count(targets: &Targets) -> Result<(), RegistryError> {
    let found = targets.targets.len();
    if found > TARGETS_MAX {
        Err(RegistryError::LimitReached {
            what: "targets",
            found,
            max: TARGETS_MAX,
        })
    } else {
        Ok(())
    }
}

/// Metadata has no fractions of seconds.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::{SPEC_VERSION, TARGETS_BYTES_MAX, expires, render, sign_role};
    use plfm_release::SigningKey;
    use std::num::NonZeroU64;
    use zeroize::Zeroizing;

    /// Metadata with as many targets, four to a release, all of them with long names.
    fn targets(count: usize) -> Targets {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ends = expires(now, jiff::SignedDuration::from_hours(24)).unwrap();
        let mut targets = Targets::new(SPEC_VERSION.to_owned(), NonZeroU64::MIN, ends);
        let build = "z".repeat(24);
        for number in 0..count / 4 {
            let id =
                format!("60000.60000.60000-rc60000-{number:08}{build}+guestinit-10.20.30-{number:08}{build}");
            let id: ReleaseId = id.parse().unwrap();
            let names = [
                manifest_target(&id),
                provenance_target(&id),
                id.kernel.artifact_name().to_string(),
                id.initramfs.artifact_name().to_string(),
            ];
            for name in &names {
                let target = plain_target(&published_target(name, name.as_bytes()));
                targets.targets.insert(target_name(name).unwrap(), target);
            }
            let record = PublishedRelease {
                key_id: SigningKey::from_seed(&Zeroizing::new([1; 32])).public_key().id(),
                channel: "production".parse().unwrap(),
                published_at: now,
                files: names.into(),
                id,
            };
            set_record(&mut targets, &record).unwrap();
        }
        targets
    }

    #[test]
    fn as_many_targets_as_are_allowed_fit_into_the_metadata_and_no_more_are_taken() {
        let full = targets(TARGETS_MAX);
        check_count(&full).unwrap();
        let rendered = render(&sign_role(full, []).unwrap()).len();
        assert!(
            rendered < usize::try_from(TARGETS_BYTES_MAX).unwrap(),
            "{rendered} bytes"
        );
        let error = check_count(&targets(TARGETS_MAX + 4)).unwrap_err();
        assert_eq!(error.code(), "registry_limit_reached");
    }
}
