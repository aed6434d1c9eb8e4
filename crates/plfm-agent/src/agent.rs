//! What all requests share: the cache, the backend, and the instances.

mod control;
mod images;
mod observe;
mod registry;
mod releases;
mod retention;
mod room;
mod scrub;
mod selection;
mod trusted_keys;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use plfm_api::{CreateInstance, Host, Instance, NetworkMode, PullImage};
use plfm_cache::{Cache, Trust};
use plfm_release::{Architecture, Protocol};
use plfm_vmm::tap::TapSupport;
use plfm_vmm::{Accelerator, Backend, Firecracker, Isolation, ProbeCommand};
use tracing::{info, warn};

use self::control::Control;
use self::images::Images;
pub use self::images::{Obtained, PullState, workload_error};
use self::registry::RegistryLink;
use self::room::{Limits, Need, Room};
use crate::instance::{self, Command, Handle, Setting};
use crate::metrics::Metrics;
use crate::problem::{ApiError, chain};
use crate::settings::Settings;

/// Guest init protocols that this agent speaks.
const PROTOCOLS: [Protocol; 1] = [Protocol(plfm_guest_protocol::PROTOCOL)];

/// The agent. Cheap to clone.
#[derive(Clone)]
pub struct Agent(Arc<Shared>);

struct Shared {
    settings: Settings,
    cache: Cache,
    images: Images,
    backend: Backend,
    tap: TapSupport,
    instances: Mutex<BTreeMap<String, Handle>>,
    registry: Option<RegistryLink>,
    control: Option<Arc<Control>>,
    room: Room,
    metrics: Metrics,
    /// Held while the file of what must stay is changed.
    wishes: Mutex<()>,
    /// Held while the trusted keys are replaced: what was delivered first must not come last.
    trusting: Mutex<()>,
}

impl Agent {
    /// Opens the cache, looks what this host can do, and settles what an earlier agent left.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        make_private_dir(&settings.state_dir)?;
        make_private_dir(&settings.instances_dir())?;
        make_private_dir(&settings.run_dir)?;
        let registry = RegistryLink::open(&settings)?;
        let control = Control::open(&settings)?;
        let trust = Trust {
            keyring: trusted_keys::load(&settings, registry.as_ref())?,
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
        let images = Images::open(&settings)?;
        let backend = find_backend(&settings).await?;
        let tap = TapSupport::detect();
        info!(
            vmm = vmm_name(&backend),
            network = network_note(&settings, tap).unwrap_or("on"),
            "host"
        );
        let (instances, control) = recover(&settings, control).await?;
        // After that, as nothing of earlier instances takes room any more.
        let limits = Limits::of(&settings)?;
        info!(
            instances = limits.instances,
            memory_mib = limits.memory_mib,
            scratch_mib = limits.scratch_mib,
            "room for instances"
        );
        let shared = Shared {
            settings,
            cache,
            images,
            backend,
            tap,
            instances: Mutex::new(instances),
            registry,
            control,
            room: Room::new(limits),
            metrics: Metrics::new(agent_version()),
            wishes: Mutex::default(),
            trusting: Mutex::default(),
        };
        let agent = Self(Arc::new(shared));
        // The last target may name what was installed since, or not be carried out to its end.
        let settling = agent.clone();
        blocking(move || settling.settle_default())
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(agent)
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
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
            control: self.control_link(),
        }
    }

    /// Creates an instance and starts it.
    pub async fn create(&self, request: CreateInstance) -> Result<Instance, ApiError> {
        let created = self.try_create(request).await;
        self.note_refusal(&created);
        created
    }

    async fn try_create(&self, request: CreateInstance) -> Result<Instance, ApiError> {
        if self.control().is_some_and(|control| control.is_draining()) {
            let detail = "this host takes no new instances: the control plane drains it";
            return Err(ApiError::conflict("host_draining", detail)
                .hint("run it on another host, or have an operator end the draining"));
        }
        // Given back when the instance is over, or when nothing comes of it.
        let place = self.0.room.take(Need::of(&request)).map_err(|no_room| {
            ApiError::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                "host_full",
                no_room.to_string(),
            )
            .hint(no_room.hint())
        })?;
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
        let image = match (&request.root_disk, &request.image) {
            (None, Some(image)) => {
                let (image, pull) = (image.clone(), request.pull);
                Some(self.image_for(&PullImage { image, pull }).await?)
            }
            // What is wrong with the others is the plan's to say.
            (Some(_), _) | (None, None) => None,
        };
        let agent = self.clone();
        let plan = blocking(move || agent.plan_boot(request, image)).await??;
        self.0
            .metrics
            .verified(std::time::Duration::from_micros(plan.verify_us));
        let settings = &self.0.settings;
        let id = plan.id.clone();
        let setting = Setting {
            dir: settings.instances_dir().join(&id),
            run_dir: settings.run_dir.join(instance::short_name(&id)),
            backend: self.0.backend.clone(),
            prefix: settings.instance_prefix,
            no_network,
            hello_patience: settings.hello_seconds.map_or_else(
                || instance::hello_patience(is_emulated(&self.0.backend)),
                std::time::Duration::from_secs,
            ),
            on_boot: self.boot_listener(),
        };
        let (handle, view, task) = instance::spawn(plan, setting);
        self.instances().insert(id, handle);
        let agent = self.clone();
        tokio::spawn(async move {
            // Over in any way: one instance more may be one too many.
            let _ = task.await;
            drop(place);
            agent.forget_surplus().await;
        });
        Ok(view)
    }

    /// Forgets the instances that are over and too many to be kept.
    async fn forget_surplus(&self) {
        let surplus = instance::surplus(&self.list());
        self.instances().retain(|id, _| !surplus.contains(id));
        let dir = self.0.settings.instances_dir();
        // Without a runtime there is nobody left to clean up for; the next start does it.
        let agent = self.clone();
        let _ = blocking(move || {
            surplus.iter().for_each(|id| instance::forget(&dir.join(id)));
            if let Some(control) = agent.control().filter(|_| !surplus.is_empty()) {
                control.forget_records(&dir);
            }
        })
        .await;
    }

    /// Takes each boot that is over, well or not, once its record is on disk.
    fn boot_listener(&self) -> instance::BootListener {
        let agent = self.clone();
        Arc::new(move |instance: &Instance| {
            if let Some(report) = &instance.boot {
                agent.0.metrics.booted(report);
            }
            if let Some(control) = agent.control() {
                control.count_boots([instance]);
            }
        })
    }

    /// Counts a refusal of a release, which is what a wrong key or wrong bytes look like.
    pub(crate) fn note_refusal<T>(&self, result: &Result<T, ApiError>) {
        if let Err(error) = result
            && error.is_refusal()
        {
            self.0.metrics.refused(error.code());
        }
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
        })?;
        let agent = self.clone();
        blocking(move || {
            if let Some(control) = agent.control() {
                control.forget_records(&agent.0.settings.instances_dir());
            }
        })
        .await
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

/// What earlier agents left of instances. Boots that were not counted yet are, before any record is forgotten.
async fn recover(
    settings: &Settings,
    control: Option<Arc<Control>>,
) -> anyhow::Result<(BTreeMap<String, Handle>, Option<Arc<Control>>)> {
    let dir = settings.instances_dir();
    let recovered = blocking(move || {
        let count = |records: &[Instance]| {
            if let Some(control) = &control {
                control.count_boots(records);
            }
        };
        let instances = instance::recover(&dir, count);
        if let Some(control) = &control {
            control.forget_records(&dir);
        }
        (instances, control)
    });
    recovered.await.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Chance, for whatever must not happen everywhere at once.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
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

/// Chooses what runs this host's instances, and says why.
async fn find_backend(settings: &Settings) -> anyhow::Result<Backend> {
    let wish = settings.vmm_wish(Some(ProbeCommand::this_program()));
    let found = tokio::task::spawn_blocking(move || Backend::find(&wish)).await??;
    for warning in &found.warnings {
        warn!("{warning}");
    }
    info!(
        vmm = vmm_name(&found.backend),
        "vmm: {}",
        found.reasons.join("; ")
    );
    if let Backend::Firecracker(Firecracker {
        isolation: Isolation::Jailed(jailer),
        ..
    }) = &found.backend
    {
        make_private_dir(&jailer.base)?;
    }
    Ok(found.backend)
}

fn vmm_name(backend: &Backend) -> &'static str {
    match backend {
        Backend::Firecracker(_) => "firecracker",
        Backend::Qemu { .. } if is_emulated(backend) => "qemu-tcg",
        Backend::Qemu { .. } => "qemu-kvm",
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
        }
        | Backend::Firecracker(_) => false,
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
