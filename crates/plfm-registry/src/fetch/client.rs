//! A client: its directory, what it trusts, and its two operations.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use jiff::Timestamp;
use plfm_release::VerifiedKeyring;
use tokio::sync::Mutex;
use tough::schema::{Root, Signed};

use super::clock::{self, Behind};
use super::download::{Means, blocking};
use super::downloads::Downloads;
use super::limits::{PARTIALS_KEPT_MAX, ROOT_BYTES_MAX};
use super::release::fetch_release;
use super::source::Source;
use super::state::{TrustedState, fail};
use super::update::{Failed, Found, Update, verify_keyring};
use super::{
    DiskError, FetchError, FetchRequest, FetchedRelease, Files, HostFiles, MirrorFailure, Settings,
    StateError, TrustedView, UpdateError,
};

const SCRATCH_DIR: &str = "scratch";
const DOWNLOADS_DIR: &str = "downloads";
const LOCK_FILE: &str = ".lock";

/// Why a client could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory.
    #[error("{} is used by another process", .0.display())]
    Locked(PathBuf),
    /// The root that the host was given is no root metadata that is signed by its own keys.
    #[error("the trusted root is not usable: {0}")]
    Root(String),
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made: {0}")]
    Http(#[source] reqwest::Error),
    /// What was trusted could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl OpenError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked(_) => "directory_locked",
            Self::Root(_) => "registry_bad_root",
            Self::Http(_) => "tls_unavailable",
            Self::State(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }
}

/// The host's side of a registry. Share it: updates follow each other, downloads are shared.
#[derive(Debug)]
pub struct RegistryClient {
    means: Arc<Means>,
    downloads: Arc<Downloads>,
    /// What is trusted. Changed under `updating` only.
    state: RwLock<Arc<TrustedState>>,
    updating: Mutex<()>,
    lock: File,
}

impl Drop for RegistryClient {
    fn drop(&mut self) {
        // Not left to the closing of the descriptor: a child that was forked and has not got to its exec yet has it too.
        let _ = self.lock.unlock();
    }
}

impl RegistryClient {
    /// Opens the client's directory, and makes it where it is missing. `trusted_root` is root metadata that came to the
    /// host with the agent; where a newer one was trusted already, that one is gone on with. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(settings: Settings, trusted_root: &[u8]) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(HostFiles), settings, trusted_root)
    }

    /// The same, with other file operations.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on(
        files: Arc<dyn Files>,
        settings: Settings,
        trusted_root: &[u8],
    ) -> Result<Self, OpenError> {
        let dir = settings.state_dir.clone();
        let downloads_dir = dir.join(DOWNLOADS_DIR);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(&downloads_dir)
            .map_err(fail("create", &downloads_dir))?;
        let lock = lock(&dir)?;
        let state = begin_with(trusted_root, TrustedState::load(&dir)?)?;
        clean(&downloads_dir)?;
        let source = Source::new(settings.clone()).map_err(OpenError::Http)?;
        let means = Arc::new(Means {
            settings,
            source,
            files,
            dir: downloads_dir,
        });
        Ok(Self {
            downloads: Downloads::new(Arc::clone(&means)),
            means,
            state: RwLock::new(Arc::new(state)),
            updating: Mutex::new(()),
            lock,
        })
    }

    /// The keyring that was trusted last, without asking anybody: a host that is cut off goes on with it.
    pub fn trusted_keyring(&self) -> Option<VerifiedKeyring> {
        let state = self.state();
        let kept = state.keyring.as_ref()?;
        let root: Signed<Root> = serde_json::from_str(&kept.root).ok()?;
        verify_keyring(kept.signed.as_bytes(), &root.signed).ok()
    }

    /// When the last complete update was, by the host's clock.
    pub fn updated_at(&self) -> Option<Timestamp> {
        self.state().committed_at
    }

    /// Asks the mirrors, in an order drawn at random, until one gives metadata that can be trusted. `now` is the host's
    /// clock. What was trusted before stays trusted when it fails.
    ///
    /// # Errors
    /// [`UpdateError`], with what each mirror did.
    pub async fn update(&self, now: Timestamp) -> Result<TrustedView, UpdateError> {
        let _one_at_a_time = self.updating.lock().await;
        let settings = &self.means.settings;
        let judged_at = clock::judge(now, settings.built_at, self.state().committed_at)
            .map_err(|Behind { passed }| UpdateError::ClockBehind { now, passed })?;
        let count = settings.mirrors.len();
        let first = usize::try_from((settings.random)())
            .unwrap_or(0)
            .checked_rem(count);
        let first = first.ok_or(UpdateError::NoMirror)?;
        let mut failures = Vec::new();
        for mirror in settings.mirrors.iter().cycle().skip(first).take(count) {
            let state = self.state();
            let update = Update {
                source: &self.means.source,
                downloads: &self.downloads,
                mirror,
                scratch: &settings.state_dir.join(SCRATCH_DIR),
                state: &state,
                now,
                judged_at,
                deadline: settings.update_deadline,
            };
            let Failed { fault, progress } = match update.run().await {
                Ok(found) => return self.accept(found, failures).await,
                Err(failed) => failed,
            };
            if let Some(progress) = progress {
                self.commit(progress).await?;
            }
            let mirror = mirror.clone();
            tracing::warn!(%mirror, code = fault.code(), "a mirror's metadata was not taken: {fault}");
            failures.push(MirrorFailure { mirror, fault });
        }
        Err(UpdateError::Mirrors(failures))
    }

    /// Fetches a release that `view` lists: the manifest, verified, and the pair that it announces.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch_release(
        &self,
        view: &TrustedView,
        request: FetchRequest<'_>,
    ) -> Result<FetchedRelease, FetchError> {
        fetch_release(&self.downloads, view, request).await
    }

    async fn accept(&self, found: Found, failures: Vec<MirrorFailure>) -> Result<TrustedView, UpdateError> {
        self.commit(found.state).await?;
        Ok(TrustedView {
            targets: found.targets,
            keyring: found.keyring,
            expires_at: found.expires_at,
            version: found.version,
            failures,
        })
    }

    async fn commit(&self, state: TrustedState) -> Result<(), StateError> {
        let state = Arc::new(state);
        let (written, dir) = (Arc::clone(&state), self.means.settings.state_dir.clone());
        let files = Arc::clone(&self.means.files);
        blocking(move || written.commit(&dir, &*files)).await?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    fn state(&self) -> Arc<TrustedState> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let file = HostFiles.open(&path).map_err(fail("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(fail("lock", &path)(source).into()),
    }
}

/// What to go on with: what was trusted last, unless the host was given a newer root.
fn begin_with(trusted_root: &[u8], state: Option<TrustedState>) -> Result<TrustedState, OpenError> {
    let given = parse_root(trusted_root)?;
    let beginning = || {
        let text = String::from_utf8_lossy(trusted_root).into_owned();
        TrustedState::beginning(text)
    };
    let Some(state) = state else {
        return Ok(beginning());
    };
    let trusted = parse_root(state.root.as_bytes())?;
    if given.signed.version > trusted.signed.version {
        // What was trusted under the older root keeps its floors: the update goes on from both.
        return Ok(TrustedState {
            root: beginning().root,
            ..state
        });
    }
    Ok(state)
}

fn parse_root(bytes: &[u8]) -> Result<Signed<Root>, OpenError> {
    if bytes.len() as u64 > ROOT_BYTES_MAX {
        return Err(OpenError::Root(format!(
            "it is longer than {ROOT_BYTES_MAX} bytes"
        )));
    }
    let root: Signed<Root> =
        serde_json::from_slice(bytes).map_err(|error| OpenError::Root(error.to_string()))?;
    root.signed
        .verify_role(&root)
        .map_err(|error| OpenError::Root(error.to_string()))?;
    Ok(root)
}

/// Removes what earlier runs left, but for the youngest partial files: those are resumed.
fn clean(dir: &Path) -> Result<(), DiskError> {
    let mut partials: Vec<(SystemTime, PathBuf)> = Vec::new();
    let entries = fs::read_dir(dir).map_err(fail("list", dir))?;
    for entry in entries {
        let path = entry.map_err(fail("list", dir))?.path();
        let metadata = path.symlink_metadata().map_err(fail("examine", &path))?;
        let partial = path.extension().is_some_and(|extension| extension == "partial") && metadata.is_file();
        match metadata.modified() {
            Ok(modified) if partial => partials.push((modified, path)),
            _ => remove(&path)?,
        }
    }
    partials.sort();
    let surplus = partials.len().saturating_sub(PARTIALS_KEPT_MAX);
    partials
        .iter()
        .take(surplus)
        .try_for_each(|(_, path)| remove(path))
}

fn remove(path: &Path) -> Result<(), DiskError> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail("remove", path)(error)),
        _ => Ok(()),
    }
}
