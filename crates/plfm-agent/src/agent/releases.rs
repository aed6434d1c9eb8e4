//! Releases on this host: installing, choosing, listing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use plfm_api::{Release, ReleaseState};
use plfm_cache::{InstalledRelease, ReleaseError};
use plfm_release::{Artifact, MANIFEST_BYTES_MAX, ReleaseId, SignedManifest, VerifiedManifest};
use plfm_rollout::retention::Retention;
use tracing::info;

use super::{Agent, cache_error, open_regular, read_bounded};
use crate::problem::{ApiError, chain};

/// How an artifact's bytes are got.
type Open<'a> = &'a mut dyn FnMut(&Artifact) -> std::io::Result<Box<dyn std::io::Read>>;

impl Agent {
    /// Verifies and installs the release in `directory`. Blocking.
    pub fn install(&self, directory: &Path, make_current: bool) -> Result<Release, ApiError> {
        let installed = self.try_install(directory, make_current);
        self.note_refusal(&installed);
        installed
    }

    fn try_install(&self, directory: &Path, make_current: bool) -> Result<Release, ApiError> {
        let bytes = read_bounded(&directory.join("manifest.json"), MANIFEST_BYTES_MAX as u64 + 1).map_err(
            |error| {
                ApiError::invalid(
                    "manifest_unreadable",
                    format!("cannot read the manifest in {}: {error}", directory.display()),
                )
            },
        )?;
        let signed = SignedManifest::parse(&bytes).map_err(|error| cache_error(error.code(), &error))?;
        let manifest = self
            .0
            .cache
            .verify(signed, Timestamp::now())
            .map_err(|error| cache_error(error.code(), &error))?;
        let mut open = |artifact: &Artifact| -> std::io::Result<Box<dyn std::io::Read>> {
            Ok(Box::new(open_regular(
                &directory.join(artifact.name.to_string()),
            )?))
        };
        self.stage_and_install(&manifest, &mut open, make_current)
    }

    /// Brings a verified release's bytes into the cache, installs it, and removes what nothing keeps any more. Blocking.
    pub(super) fn stage_and_install(
        &self,
        manifest: &VerifiedManifest,
        open: Open<'_>,
        make_current: bool,
    ) -> Result<Release, ApiError> {
        let staged = self
            .0
            .cache
            .stage(manifest, open)
            .map_err(|error| cache_error(error.code(), &error))?;
        let release = staged
            .install(Timestamp::now())
            .map_err(|error| cache_error(error.code(), &error))?;
        info!(release = %release.id(), "installed");
        if make_current {
            self.make_current(&release)?;
        }
        // It may be what the control plane waits for.
        self.settle_default();
        let id = release.id().clone();
        let described = self.describe(id.clone(), Ok(release), &self.retention()?);
        self.collect_after(&id);
        Ok(described)
    }

    /// Makes an installed release current. Blocking.
    pub fn set_current(&self, text: &str) -> Result<Release, ApiError> {
        let release = self.find_release(text)?;
        self.make_current(&release)?;
        self.describe_by_id(release.id())
    }

    /// An installed release as it is seen from outside.
    pub(super) fn describe_by_id(&self, id: &ReleaseId) -> Result<Release, ApiError> {
        Ok(self.describe(id.clone(), self.0.cache.get(id), &self.retention()?))
    }

    pub(super) fn make_current(&self, release: &InstalledRelease) -> Result<(), ApiError> {
        // The way back is on disk first: from the switch on, it must not be collected.
        self.note_way_back(release.id())?;
        self.0
            .cache
            .set_current(release)
            .map_err(|error| cache_error(error.code(), &error))?;
        info!(release = %release.id(), "current");
        Ok(())
    }

    /// All releases on this host. Blocking.
    pub fn releases(&self) -> Result<Vec<Release>, ApiError> {
        let list = self
            .0
            .cache
            .list()
            .map_err(|error| cache_error(error.code(), &error))?;
        let retention = self.retention()?;
        Ok(list
            .into_iter()
            .map(|(id, release)| self.describe(id, release, &retention))
            .collect())
    }

    fn describe(
        &self,
        id: ReleaseId,
        release: Result<InstalledRelease, ReleaseError>,
        retention: &Retention,
    ) -> Release {
        let is_current = matches!(self.0.cache.current(), Ok(Some(current)) if *current.id() == id);
        let reasons = retention.keep.get(&id).map(Vec::as_slice).unwrap_or_default();
        let (problem, release) = match release {
            Ok(release) => (None, Some(release)),
            Err(error) => (Some(chain(&error)), None),
        };
        let release = release.as_ref();
        let signed = release.and_then(|release| SignedManifest::parse(release.manifest_bytes()).ok());
        Release {
            state: match (&problem, is_current) {
                (Some(_), _) => ReleaseState::Refused,
                (None, true) => ReleaseState::Current,
                (None, false) => ReleaseState::Installed,
            },
            problem,
            installed_at: release.map(InstalledRelease::installed_at),
            protocol: release.map(|release| release.protocol().0),
            key_id: signed.map(|signed| signed.key_id()),
            kernel_sha256: release.map(|release| release.manifest().kernel.sha256),
            initramfs_sha256: release.map(|release| release.manifest().initramfs.sha256),
            instances: self.running().get(&id).copied().unwrap_or(0),
            kept_because: reasons.iter().map(ToString::to_string).collect(),
            id,
        }
    }

    /// The ids of all releases on this host. Blocking.
    pub(super) fn installed_ids(&self) -> Result<BTreeSet<ReleaseId>, ApiError> {
        let inventory = self
            .0
            .cache
            .inventory()
            .map_err(|error| cache_error(error.code(), &error))?;
        Ok(inventory.into_iter().map(|entry| entry.release).collect())
    }

    /// How many instances run on each release.
    pub(super) fn running(&self) -> BTreeMap<ReleaseId, usize> {
        let mut running = BTreeMap::new();
        for instance in self.list() {
            if !instance.state.is_over() {
                *running.entry(instance.release).or_insert(0) += 1;
            }
        }
        running
    }

    pub(super) fn find_release(&self, text: &str) -> Result<InstalledRelease, ApiError> {
        let list = self
            .0
            .cache
            .list()
            .map_err(|error| cache_error(error.code(), &error))?;
        let mut matching: Vec<_> = list.into_iter().filter(|(id, _)| id.matches(text)).collect();
        if matching.len() > 1 {
            let ids: Vec<String> = matching.iter().map(|(id, _)| id.to_string()).collect();
            let detail = format!("{text:?} could be any of {}", ids.join(", "));
            return Err(ApiError::conflict("release_ambiguous", detail).hint("give the whole id"));
        }
        let (_, release) = matching.pop().ok_or_else(|| {
            ApiError::not_found(
                "release_unknown",
                format!("no release {text:?} is installed on this host"),
            )
            .hint("see `plfm release list`, or install it with `plfm release install DIR`")
        })?;
        release.map_err(|error| cache_error(error.code(), &error))
    }
}
