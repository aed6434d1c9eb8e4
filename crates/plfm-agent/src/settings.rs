//! What the agent is told at its start.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;
use plfm_registry::fetch::Mirror;
use plfm_release::Channel;
use plfm_vmm::AcceleratorChoice;
use reqwest::Url;

/// The host daemon of plfm: installs verified releases and boots instances from them.
#[derive(Debug, Clone, Parser)]
#[command(name = "plfm-agent", version)]
pub struct Settings {
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
    #[arg(long, env = "PLFM_CONTROL", value_name = "URL", requires = "control_ca")]
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

    /// The agent's own socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }
}
