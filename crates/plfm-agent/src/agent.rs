//! What all requests share: the cache, the backend, and the instances.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use plfm_api::{CreateInstance, Host, Instance, NetworkMode, Release, ReleaseState};
use plfm_cache::{Cache, InstalledRelease, Trust};
use plfm_release::{Architecture, Keyring, MANIFEST_BYTES_MAX, Protocol, ReleaseId, SignedManifest};
use plfm_vmm::tap::TapSupport;
use plfm_vmm::{Accelerator, Backend};
use tracing::{info, warn};

use crate::instance::{self, BootPlan, Command, Handle, Setting};
use crate::problem::{ApiError, chain};
use crate::settings::Settings;

/// Guest init protocols that this agent speaks.
const PROTOCOLS: [Protocol; 1] = [Protocol(plfm_guest_protocol::PROTOCOL)];
/// How many instances may run at once.
const INSTANCES_MAX: usize = 256;
/// Largest keyring, in bytes.
const KEYRING_BYTES_MAX: u64 = 1024 * 1024;

/// The agent. Cheap to clone.
#[derive(Clone)]
pub struct Agent(Arc<Shared>);

struct Shared {
    settings: Settings,
    cache: Cache,
    backend: Backend,
    tap: TapSupport,
    instances: Mutex<BTreeMap<String, Handle>>,
}

impl Agent {
    /// Opens the cache, looks what this host can do, and settles what an earlier agent left.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        make_private_dir(&settings.state_dir)?;
        make_private_dir(&settings.instances_dir())?;
        make_private_dir(&settings.run_dir)?;
        let trust = Trust {
            keyring: load_keyring(&settings.keyring)?,
            channel: settings.channel.clone(),
            arch: Architecture::X86_64,
            agent_version: agent_version(),
            protocols: PROTOCOLS.to_vec(),
        };
        let (cache, repairs) = Cache::open(&settings.cache_dir(), trust)
            .with_context(|| format!("cannot open the release cache {}", settings.cache_dir().display()))?;
        for repair in repairs {
            warn!("release cache: {repair}");
        }
        let backend = Backend::detect(settings.accelerator)?;
        let tap = TapSupport::detect();
        info!(
            vmm = vmm_name(&backend),
            network = network_note(&settings, tap).unwrap_or("on"),
            "host"
        );
        let instances = instance::recover(&settings.instances_dir()).await;
        let shared = Shared {
            settings,
            cache,
            backend,
            tap,
            instances: Mutex::new(instances),
        };
        Ok(Self(Arc::new(shared)))
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Reads the keyring again: a key that was revoked in it stops the next boot, and nothing that runs.
    /// On an error the keys stay as they are.
    pub fn reload_keyring(&self) {
        match load_keyring(&self.0.settings.keyring) {
            Ok(keyring) => {
                self.0.cache.replace_keyring(keyring);
                info!("keyring read again");
            }
            Err(error) => warn!("the keyring stays as it was: {error:#}"),
        }
    }

    pub fn host(&self) -> Host {
        Host {
            agent_version: agent_version().to_string(),
            guest_init_protocols: PROTOCOLS.iter().map(|protocol| protocol.0).collect(),
            channel: self.0.settings.channel.to_string(),
            vmm: vmm_name(&self.0.backend).to_owned(),
            network: network_note(&self.0.settings, self.0.tap)
                .unwrap_or("on")
                .to_owned(),
        }
    }

    /// Verifies and installs the release in `directory`. Blocking.
    pub fn install(&self, directory: &Path, make_current: bool) -> Result<Release, ApiError> {
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
        let mut open = |artifact: &plfm_release::Artifact| -> std::io::Result<Box<dyn std::io::Read>> {
            Ok(Box::new(open_regular(
                &directory.join(artifact.name.to_string()),
            )?))
        };
        let staged = self
            .0
            .cache
            .stage(&manifest, &mut open)
            .map_err(|error| cache_error(error.code(), &error))?;
        let release = staged
            .install(Timestamp::now())
            .map_err(|error| cache_error(error.code(), &error))?;
        info!(release = %release.id(), "installed");
        if make_current {
            self.make_current(&release)?;
        }
        Ok(self.describe(release.id().clone(), Ok(release)))
    }

    /// Makes an installed release current. Blocking.
    pub fn set_current(&self, text: &str) -> Result<Release, ApiError> {
        let release = self.find_release(text)?;
        self.make_current(&release)?;
        Ok(self.describe(release.id().clone(), Ok(release)))
    }

    fn make_current(&self, release: &InstalledRelease) -> Result<(), ApiError> {
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
        Ok(list
            .into_iter()
            .map(|(id, release)| self.describe(id, release))
            .collect())
    }

    fn describe(
        &self,
        id: ReleaseId,
        release: Result<InstalledRelease, plfm_cache::ReleaseError>,
    ) -> Release {
        let running = self
            .list()
            .into_iter()
            .filter(|instance| instance.release == id && !instance.state.is_over());
        let instances = running.count();
        match release {
            Ok(release) => {
                let is_current = matches!(self.0.cache.current(), Ok(Some(current)) if *current.id() == id);
                let manifest = release.manifest();
                Release {
                    state: if is_current {
                        ReleaseState::Current
                    } else {
                        ReleaseState::Installed
                    },
                    problem: None,
                    installed_at: Some(release.installed_at()),
                    protocol: Some(release.protocol().0),
                    key_id: SignedManifest::parse(release.manifest_bytes())
                        .ok()
                        .map(|signed| signed.key_id()),
                    kernel_sha256: Some(manifest.kernel.sha256),
                    initramfs_sha256: Some(manifest.initramfs.sha256),
                    instances,
                    id,
                }
            }
            Err(error) => Release {
                id,
                state: ReleaseState::Refused,
                problem: Some(chain(&error)),
                installed_at: None,
                protocol: None,
                key_id: None,
                kernel_sha256: None,
                initramfs_sha256: None,
                instances,
            },
        }
    }

    fn find_release(&self, text: &str) -> Result<InstalledRelease, ApiError> {
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

    fn choose_release(&self, requested: Option<&str>) -> Result<(InstalledRelease, &'static str), ApiError> {
        if let Some(text) = requested {
            return Ok((self.find_release(text)?, "requested"));
        }
        let current = self
            .0
            .cache
            .current()
            .map_err(|error| cache_error(error.code(), &error))?;
        let release = current.ok_or_else(|| {
            ApiError::conflict("no_current_release", "this host has no current release to boot")
                .hint("install one with `plfm release install DIR --current`")
        })?;
        Ok((release, "current"))
    }

    /// Creates an instance and starts it.
    pub async fn create(&self, request: CreateInstance) -> Result<Instance, ApiError> {
        if self
            .list()
            .iter()
            .filter(|instance| !instance.state.is_over())
            .count()
            >= INSTANCES_MAX
        {
            let detail = format!("this host runs {INSTANCES_MAX} instances already");
            return Err(ApiError::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                "host_full",
                detail,
            ));
        }
        let no_network = match request.network {
            NetworkMode::Off => Some("not wanted"),
            NetworkMode::Auto => network_note(&self.0.settings, self.0.tap),
            NetworkMode::On => match network_note(&self.0.settings, self.0.tap) {
                None => None,
                Some(note) => {
                    let detail = format!("this host cannot give the instance a network interface: {note}");
                    return Err(ApiError::conflict("network_unavailable", detail));
                }
            },
        };
        let (agent, dns) = (self.clone(), self.0.settings.dns.clone());
        let plan = blocking(move || {
            let started = std::time::Instant::now();
            let (release, reason) = agent.choose_release(request.release.as_deref())?;
            BootPlan::new(&release, reason, request, dns, started)
        })
        .await??;
        let settings = &self.0.settings;
        let id = plan.id.clone();
        let setting = Setting {
            dir: settings.instances_dir().join(&id),
            run_dir: settings.run_dir.join(instance::short_name(&id)),
            backend: self.0.backend.clone(),
            prefix: settings.instance_prefix,
            no_network,
            emulated: is_emulated(&self.0.backend),
        };
        let (handle, view) = instance::spawn(plan, setting);
        self.instances().insert(id, handle);
        Ok(view)
    }

    fn instances(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Handle>> {
        self.0.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All instances, oldest first.
    pub fn list(&self) -> Vec<Instance> {
        self.instances().values().map(Handle::view).collect()
    }

    /// The instance that `text` names: its id, or an end of it that only one has.
    pub fn find(&self, text: &str) -> Result<Handle, ApiError> {
        let instances = self.instances();
        if let Some(handle) = instances.get(text) {
            return Ok(handle.clone());
        }
        let wanted = text.to_ascii_uppercase();
        let mut matching = instances
            .iter()
            .filter(|(id, _)| wanted.len() >= 4 && id.ends_with(&wanted));
        match (matching.next(), matching.next()) {
            (Some((_, handle)), None) => Ok(handle.clone()),
            (Some(_), Some(_)) => Err(ApiError::conflict(
                "instance_ambiguous",
                format!("{text:?} is the end of more than one instance's id"),
            )),
            (None, _) => {
                let detail = format!("there is no instance {text:?} on this host");
                Err(ApiError::not_found("instance_unknown", detail).hint("see `plfm ps --all`"))
            }
        }
    }

    /// Forgets an instance that is over, and what it left.
    pub async fn delete(&self, text: &str) -> Result<(), ApiError> {
        let handle = self.find(text)?;
        let view = handle.view();
        if !view.state.is_over() {
            let detail = format!("instance {} is {}", view.id, view.state.as_str());
            return Err(ApiError::conflict("instance_running", detail)
                .hint(format!("stop it first: `plfm stop {}`", view.id)));
        }
        self.instances().remove(&view.id);
        let dir = self.0.settings.instances_dir().join(&view.id);
        tokio::fs::remove_dir_all(&dir).await.map_err(|error| {
            ApiError::internal("disk_error", format!("cannot remove {}: {error}", dir.display()))
        })
    }

    /// Stops all instances, and waits until they are.
    pub async fn stop_all(&self) {
        let running: Vec<Handle> = self
            .instances()
            .values()
            .filter(|handle| !handle.view().state.is_over())
            .cloned()
            .collect();
        for handle in &running {
            let _ = handle.send(Command::Stop { grace_seconds: None }).await;
        }
        for handle in running {
            // The instance's own deadlines bound this.
            handle
                .wait(|instance| instance.state.is_over(), Duration::from_secs(3_700))
                .await;
        }
    }
}

/// Runs blocking work off the runtime's threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::internal("internal", "the agent failed at this request"))
}

/// An error of the cache or of the manifest chain: the disk's fault, or a refusal.
fn cache_error(code: &'static str, error: &dyn std::error::Error) -> ApiError {
    if code.starts_with("cache_") {
        ApiError::internal(code, chain(error))
    } else {
        ApiError::refused(code, error)
    }
}

/// The agent's version, which a release's `min_agent_version` is compared with.
pub fn agent_version() -> semver::Version {
    env!("CARGO_PKG_VERSION")
        .parse()
        .unwrap_or_else(|_| semver::Version::new(0, 0, 0))
}

fn vmm_name(backend: &Backend) -> &'static str {
    if is_emulated(backend) {
        "qemu-tcg"
    } else {
        "qemu-kvm"
    }
}

fn is_emulated(backend: &Backend) -> bool {
    match backend {
        Backend::Qemu {
            accelerator: Accelerator::Tcg,
            ..
        } => true,
        Backend::Qemu {
            accelerator: Accelerator::Kvm,
            ..
        } => false,
    }
}

/// Why instances have no network interface here, if they have none.
fn network_note(settings: &Settings, tap: TapSupport) -> Option<&'static str> {
    match tap {
        _ if settings.no_network => Some("turned off by --no-network"),
        TapSupport::Available => None,
        TapSupport::NoDevice => Some("no /dev/net/tun on this host"),
        TapSupport::NotPermitted => Some("the agent has no CAP_NET_ADMIN"),
    }
}

fn make_private_dir(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let make = || {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
    };
    make().with_context(|| format!("cannot make {}", path.display()))
}

fn load_keyring(path: &Path) -> anyhow::Result<Keyring> {
    let bytes = read_bounded(path, KEYRING_BYTES_MAX)
        .with_context(|| format!("cannot read the keyring {} (--keyring names it)", path.display()))?;
    Keyring::parse(&bytes).with_context(|| format!("cannot use the keyring {}", path.display()))
}

/// Opens a regular file, following no link at its end.
fn open_regular(path: &Path) -> std::io::Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::other("not a regular file"))
    }
}

fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    open_regular(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
