//! What the agent is told at its start: flags, else environment, else file, else what is usual.

mod check;
mod file;

pub use check::{SettingsProblem, check_settings};
pub use file::{SettingsError, load_settings};

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;
use plfm_registry::fetch::Mirror;
use plfm_release::Channel;
use plfm_vmm::{AcceleratorChoice, JailUser, JailWish, ProbeCommand, VmmChoice, VmmWish};
use reqwest::Url;

/// Where settings are, unless told otherwise.
const CONFIG_DEFAULT: &str = "/etc/plfm/agent.toml";

/// The host daemon of plfm: installs verified releases and boots instances from them.
#[derive(Debug, Clone, Parser)]
#[command(name = "plfm-agent", version)]
pub struct Settings {
    /// A file with settings: TOML whose members are named as the flags, with `_`. The usual one need not be there
    #[arg(long, env = "PLFM_CONFIG", value_name = "FILE", default_value = CONFIG_DEFAULT)]
    pub config: PathBuf,
    /// Where releases and instances are kept.
    #[arg(long, env = "PLFM_STATE_DIR", default_value = "/var/lib/plfm-agent")]
    pub state_dir: PathBuf,
    /// Where sockets are; its path must be short.
    #[arg(long, env = "PLFM_RUN_DIR", default_value = "/run/plfm-agent")]
    pub run_dir: PathBuf,
    /// The keys that may sign releases for this host.
    #[arg(long, env = "PLFM_KEYRING", default_value = "/etc/plfm/keyring.json")]
    pub keyring: PathBuf,
    /// A copy of the registry: http(s)://…, file:///… or a directory; may be given several times
    #[arg(long, env = "PLFM_REGISTRY", value_name = "URL", value_delimiter = ',')]
    pub registry: Vec<Mirror>,
    /// The root metadata that the registry is trusted by, as `plfm registry init` made it or later.
    #[arg(long, env = "PLFM_REGISTRY_ROOT", default_value = "/etc/plfm/root.json")]
    pub registry_root: PathBuf,
    /// How often the registry is asked for what is new, in seconds.
    #[arg(long, env = "PLFM_REGISTRY_POLL_SECONDS", default_value_t = 300)]
    pub registry_poll_seconds: u64,
    /// The one channel whose releases this host takes.
    #[arg(long, env = "PLFM_CHANNEL", default_value = "production")]
    pub channel: Channel,
    /// The control plane: an https:// address. Without one the host goes by what is done on it
    #[arg(long, env = "PLFM_CONTROL", value_name = "URL")]
    pub control: Option<Url>,
    /// What the control plane's certificate is trusted by: PEM. Nothing else is
    #[arg(long, env = "PLFM_CONTROL_CA", value_name = "FILE")]
    pub control_ca: Option<PathBuf>,
    /// An enrollment token, for a host that has no certificate yet or whose certificate is over; read again until it works
    #[arg(long, env = "PLFM_ENROLL_TOKEN_FILE", value_name = "FILE")]
    pub enroll_token_file: Option<PathBuf>,
    /// What people call this host; the machine's host name, unless told otherwise
    #[arg(long, env = "PLFM_HOST_NAME", value_name = "NAME")]
    pub host_name: Option<String>,
    /// Where metrics can be read: /metrics, /healthz and /readyz over HTTP; nowhere, unless told
    #[arg(long, env = "PLFM_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// What runs instances: auto (Firecracker where it and KVM are usable, else QEMU), firecracker or qemu
    #[arg(long, env = "PLFM_VMM", default_value = "auto")]
    pub vmm: VmmChoice,
    /// Where Firecracker's jails are made, on a file system that allows devices; the state directory's jails, unless told
    #[arg(long, env = "PLFM_JAIL_DIR", value_name = "DIR")]
    pub jail_dir: Option<PathBuf>,
    /// Whom a jailed Firecracker runs as, by numbers; the user plfm-vm, unless told
    #[arg(long, env = "PLFM_JAIL_USER", value_name = "UID:GID")]
    pub jail_user: Option<JailUser>,
    /// The cgroup in which each jail gets its own, below the root of cgroup v2
    #[arg(long, env = "PLFM_JAIL_CGROUP", default_value = plfm_vmm::JAIL_CGROUP_DEFAULT)]
    pub jail_cgroup: String,
    /// Run Firecracker without its jailer: a guest that breaks out of it is root on this host. For development only
    #[arg(long, env = "PLFM_DANGEROUSLY_WITHOUT_JAIL")]
    pub dangerously_without_jail: bool,
    /// What runs the guests' instructions: auto (KVM where the processor has it), kvm or tcg (emulation).
    #[arg(long, env = "PLFM_ACCELERATOR", default_value = "auto")]
    pub accelerator: AcceleratorChoice,
    /// How long a guest may take from its start to its hello, in seconds; 10 under KVM and 60 in emulation, unless told.
    #[arg(
        long,
        env = "PLFM_HELLO_SECONDS",
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=600)
    )]
    pub hello_seconds: Option<u64>,
    /// The /64 from which instances get their addresses.
    #[arg(long, env = "PLFM_INSTANCE_PREFIX", default_value = "fd70:6c66:6d00::")]
    pub instance_prefix: Ipv6Addr,
    /// A resolver for instances; may be given several times.
    #[arg(long, env = "PLFM_DNS", value_name = "ADDRESS", value_delimiter = ',')]
    pub dns: Vec<std::net::IpAddr>,
    /// Give instances no network interface.
    #[arg(long, env = "PLFM_NO_NETWORK")]
    pub no_network: bool,
    /// How large the disks of all images may become together, in GiB. What nothing runs from goes first.
    #[arg(long, env = "PLFM_IMAGE_STORE_GIB", value_name = "GIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub image_store_gib: u64,
    /// Credentials of the registries that images come from, as `docker login` writes them; read at each pull.
    #[arg(
        long,
        env = "PLFM_IMAGE_CREDENTIALS",
        value_name = "FILE",
        default_value = "/etc/plfm/docker.json"
    )]
    pub image_credentials: PathBuf,
    /// A registry of images that is spoken to without TLS: HOST or HOST:PORT; may be given several times
    #[arg(
        long,
        env = "PLFM_IMAGE_PLAINTEXT",
        value_name = "HOST",
        value_delimiter = ','
    )]
    pub image_plaintext: Vec<String>,
    /// Instances that may run at once.
    #[arg(long, env = "PLFM_INSTANCES_MAX", value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub instances_max: u32,
    /// Memory that instances may be promised together, in MiB; seven eighths of the machine's, unless told
    #[arg(long, env = "PLFM_MEMORY_MAX_MIB", value_name = "MIB")]
    pub memory_max_mib: Option<u64>,
    /// Scratch disks that instances may be promised together, in MiB; nine tenths of what is free under --state-dir at the
    /// agent's start, unless told
    #[arg(long, env = "PLFM_SCRATCH_MAX_MIB", value_name = "MIB")]
    pub scratch_max_mib: Option<u64>,
    /// Log as JSON lines.
    #[arg(long, env = "PLFM_LOG_JSON")]
    pub log_json: bool,
}

impl Settings {
    /// The artifact cache, as the spec has it.
    pub fn cache_dir(&self) -> PathBuf {
        self.state_dir.join("kernels")
    }

    /// A directory for each instance.
    pub fn instances_dir(&self) -> PathBuf {
        self.state_dir.join("instances")
    }

    /// What is wanted of this host's VMM.
    ///
    /// `probe` is how KVM is tried: this program, if its `main` knows [`plfm_vmm::probe_if_asked`].
    pub fn vmm_wish(&self, probe: Option<ProbeCommand>) -> VmmWish {
        let jail = if self.dangerously_without_jail {
            JailWish::DangerouslyWithoutJail
        } else {
            JailWish::Jailed {
                base: self
                    .jail_dir
                    .clone()
                    .unwrap_or_else(|| self.state_dir.join("jails")),
                user: self.jail_user,
                cgroup_parent: self.jail_cgroup.clone(),
            }
        };
        VmmWish {
            vmm: self.vmm,
            accelerator: self.accelerator,
            jail,
            probe,
        }
    }

    /// Root disks made of customers' images.
    pub fn images_dir(&self) -> PathBuf {
        self.state_dir.join("images")
    }

    /// The agent's own socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }
}
