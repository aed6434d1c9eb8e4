//! One release: its manifest first, then the pair that the manifest names.
//!
//! The repository's metadata and the manifest are signed by different keys, and both have to announce the same bytes.
//! So neither the repository's keys alone nor a release key alone can bring bytes to a host, and two signed releases
//! cannot be mixed.

use std::fs::File;
use std::io;
use std::sync::Arc;

use plfm_release::{
    Artifact, ArtifactKind, Keyring, MANIFEST_BYTES_MAX, Manifest, ManifestError, ReleaseId, SignedManifest,
    VerifiedManifest, VerifyPolicy,
};
use tokio::sync::watch;

use super::download::{Wanted, blocking};
use super::downloads::{Downloads, Slot};
use super::state::fail;
use super::{DiskError, FetchError, FetchedFile, TrustedView};
use crate::layout::manifest_target;

/// What is to be fetched, and what is taken.
pub struct FetchRequest<'a> {
    /// The release.
    pub release: &'a ReleaseId,
    /// The keys that may sign it.
    pub keyring: &'a Keyring,
    /// The channel, the machine, and the time: the host's clock.
    pub policy: &'a VerifyPolicy,
    /// Whether an artifact is on the host already, verified: then it is not fetched.
    pub is_here: &'a (dyn Fn(&Artifact) -> bool + Send + Sync),
    /// Is called with each step forward.
    pub progress: &'a (dyn Fn(FetchProgress) + Send + Sync),
}

/// How much of a release's artifacts is here, in bytes. After a wrong digest the number falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchProgress {
    /// What is here.
    pub bytes_done: u64,
    /// What there is to fetch.
    pub bytes_total: u64,
}

/// A release that was fetched: a verified manifest, and files that are what it announces. The files live as long as
/// the value.
#[derive(Debug)]
pub struct FetchedRelease {
    manifest: VerifiedManifest,
    kernel: Option<FetchedFile>,
    initramfs: Option<FetchedFile>,
}

impl FetchedRelease {
    /// Its manifest.
    pub fn manifest(&self) -> &VerifiedManifest {
        &self.manifest
    }

    /// One of its artifacts; none where the host has it already.
    pub fn file(&self, kind: ArtifactKind) -> Option<&FetchedFile> {
        match kind {
            ArtifactKind::Kernel => self.kernel.as_ref(),
            ArtifactKind::Initramfs => self.initramfs.as_ref(),
        }
    }

    /// Opens one of its artifacts, for `Cache::stage`.
    ///
    /// # Errors
    /// `NotFound` for an artifact that was not fetched because it was on the host already; else what the system says.
    pub fn open(&self, kind: ArtifactKind) -> io::Result<File> {
        match self.file(kind) {
            Some(file) => file.open(),
            None => {
                let why = format!("the {kind} was on the host already and was not fetched");
                Err(io::Error::new(io::ErrorKind::NotFound, why))
            }
        }
    }
}

/// Fetches a release that `view` lists.
pub(crate) async fn fetch_release(
    downloads: &Arc<Downloads>,
    view: &TrustedView,
    request: FetchRequest<'_>,
) -> Result<FetchedRelease, FetchError> {
    let now = request.policy.at;
    let expired_at = view.expires_at();
    if now >= expired_at {
        return Err(FetchError::StaleView { expired_at, now });
    }
    let manifest = fetch_manifest(downloads, view, &request).await?;
    let wanted = check_artifacts(view, request.release, manifest.manifest())?;
    let [kernel, initramfs] = wanted.map(|(artifact, wanted)| {
        let here = (request.is_here)(&artifact);
        (!here).then(|| downloads.slot(&wanted))
    });
    let total = |slot: &Option<Arc<Slot>>| slot.as_ref().map_or(0, |slot| slot.size_bytes());
    let bytes_total = total(&kernel) + total(&initramfs);
    let watched = [&kernel, &initramfs].map(|slot| slot.as_ref().map(|slot| slot.done()));
    let both = async { tokio::try_join!(fetch(kernel), fetch(initramfs)) };
    tokio::pin!(both);
    let report = report_progress(watched, bytes_total, request.progress);
    let (kernel, initramfs) = tokio::select! {
        biased;
        fetched = &mut both => fetched,
        () = report => both.await,
    }?;
    (request.progress)(FetchProgress {
        bytes_done: bytes_total,
        bytes_total,
    });
    Ok(FetchedRelease {
        manifest,
        kernel,
        initramfs,
    })
}

async fn fetch(slot: Option<Arc<Slot>>) -> Result<Option<FetchedFile>, FetchError> {
    match slot {
        Some(slot) => Ok(Some(slot.fetch().await?)),
        None => Ok(None),
    }
}

async fn fetch_manifest(
    downloads: &Arc<Downloads>,
    view: &TrustedView,
    request: &FetchRequest<'_>,
) -> Result<VerifiedManifest, FetchError> {
    let release = request.release;
    let Some(wanted) = view.wanted(manifest_target(release)) else {
        return Err(FetchError::Unknown(Box::new(release.clone())));
    };
    let refused = |source| FetchError::Manifest {
        release: Box::new(release.clone()),
        source,
    };
    let length = usize::try_from(wanted.size_bytes).unwrap_or(usize::MAX);
    if length > MANIFEST_BYTES_MAX {
        return Err(refused(ManifestError::TooLong { bytes: length }));
    }
    let file = downloads.slot(&wanted).fetch().await?;
    let bytes = blocking(move || read(&file)).await?;
    let signed = SignedManifest::parse(&bytes).map_err(refused)?;
    let verified = request.keyring.verify(signed, request.policy);
    let manifest = verified.map_err(|source| FetchError::Untrusted {
        release: Box::new(release.clone()),
        source,
    })?;
    let found = manifest.manifest().release_id();
    if found != *release {
        return Err(FetchError::OtherRelease {
            release: Box::new(release.clone()),
            found: Box::new(found),
        });
    }
    Ok(manifest)
}

fn read(file: &FetchedFile) -> Result<Vec<u8>, DiskError> {
    std::fs::read(file.path()).map_err(fail("read", file.path()))
}

/// What the manifest and the repository's metadata agree on.
fn check_artifacts(
    view: &TrustedView,
    release: &ReleaseId,
    manifest: &Manifest,
) -> Result<[(Artifact, Wanted); 2], FetchError> {
    let check = |kind| {
        let artifact = manifest.artifact(kind);
        let name = artifact.name.to_string();
        let release = Box::new(release.clone());
        match view.wanted(name.clone()) {
            None => Err(FetchError::MissingPart { release, name }),
            Some(wanted) if wanted.sha256 != artifact.sha256 || wanted.size_bytes != artifact.size_bytes => {
                Err(FetchError::Mixed { release, name })
            }
            Some(wanted) => Ok((artifact, wanted)),
        }
    };
    Ok([check(ArtifactKind::Kernel)?, check(ArtifactKind::Initramfs)?])
}

/// Reports each change of the sum, as long as there are changes.
async fn report_progress(
    watched: [Option<watch::Receiver<u64>>; 2],
    bytes_total: u64,
    progress: &(dyn Fn(FetchProgress) + Send + Sync),
) {
    let [mut kernel, mut initramfs] = watched;
    let (mut kernel_moves, mut initramfs_moves) = (kernel.is_some(), initramfs.is_some());
    loop {
        let bytes_done = done(&mut kernel) + done(&mut initramfs);
        progress(FetchProgress {
            bytes_done,
            bytes_total,
        });
        tokio::select! {
            moved = changed(&mut kernel), if kernel_moves => kernel_moves = moved,
            moved = changed(&mut initramfs), if initramfs_moves => initramfs_moves = moved,
            else => return,
        }
    }
}

fn done(watched: &mut Option<watch::Receiver<u64>>) -> u64 {
    watched.as_mut().map_or(0, |watched| *watched.borrow_and_update())
}

/// Waits for a change; false when there will be none any more.
async fn changed(watched: &mut Option<watch::Receiver<u64>>) -> bool {
    match watched {
        Some(watched) => watched.changed().await.is_ok(),
        None => false,
    }
}
