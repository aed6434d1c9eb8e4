//! Two network namespaces and the link between them.
//!
//! Both are named after this process and are gone when it is: a shell holds on to the reading end of a pipe, and takes
//! them away when the writing end is closed, by us or by our death, whatever it was.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::far;
use crate::shell::{find, run_quietly};

/// The rate of a shaped link, in bits a second.
const RATE_BITS: u64 = 100_000_000;
/// The far link's delay, each way.
const DELAY: Duration = Duration::from_millis(50);
/// Of so many packets on the far link one is lost, each way.
const LOST_ONE_OF: u64 = 100;
/// The agent's address and the registry's (RFC 5737: for documentation, so nobody's).
const HOST_ADDRESS: &str = "192.0.2.1";
pub const REGISTRY_ADDRESS: &str = "192.0.2.2";
/// Ends what still runs in the namespaces, and removes them. It does not listen to the terminal.
const GUARD: &str = r#"
trap "" INT TERM HUP
cat > /dev/null
for name; do
    ip netns pids "$name" 2> /dev/null | xargs --no-run-if-empty kill -KILL
    ip netns del "$name" 2> /dev/null
done
exit 0
"#;

/// What is between host and registry.
#[derive(Clone, Copy)]
pub enum Link {
    /// A veth pair, as fast as the machine is.
    Unshaped,
    /// 100 Mbit/s.
    Near,
    /// 100 Mbit/s, and delay and loss both ways.
    Far,
}

impl Link {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unshaped => "unshaped",
            Self::Near => "100 Mbit/s",
            Self::Far => "100 Mbit/s, 50 ms and 1 % loss each way",
        }
    }

    /// How long the bytes alone take.
    pub fn ideal_ms(self, bytes: u64) -> Option<u64> {
        match self {
            Self::Unshaped => None,
            Self::Near | Self::Far => Some(bytes * 8 * 1_000 / RATE_BITS),
        }
    }
}

/// How the server's TCP answers to loss.
#[derive(Clone, Copy)]
pub enum Congestion {
    /// What most kernels come with.
    Cubic,
    /// What some come with.
    Bbr,
}

impl Congestion {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }

    /// Whether this kernel has it.
    pub fn is_available(self) -> anyhow::Result<bool> {
        let list = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
        Ok(list.split_whitespace().any(|name| name == self.name()))
    }
}

/// The namespaces, while it lives.
pub struct Network {
    host: String,
    registry: String,
    guard: Child,
}

impl Network {
    /// Makes them. Needs root.
    pub fn make(link: Link, congestion: Congestion) -> anyhow::Result<Self> {
        let name = |end: &str| format!("plfm-{}-{end}", std::process::id());
        let (host, registry) = (name("host"), name("registry"));
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", &host, &registry])
            .env("PATH", with_root_programs())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run sh")?;
        let network = Self {
            host,
            registry,
            guard,
        };
        for name in [&network.host, &network.registry] {
            ip(&["netns", "add", name]).context("network namespaces need root")?;
        }
        match link {
            Link::Unshaped => network.join()?,
            Link::Near => {
                network.join()?;
                network.shape()?;
            }
            Link::Far => {
                far::join(&network.host, &network.registry, DELAY, LOST_ONE_OF)?;
                network.bring_up()?;
                network.shape()?;
            }
        }
        // By the route, which makes no setting of the machine's other than it is.
        let route = ["route", "replace", HOST_ADDRESS, "dev", "eth0", "congctl"];
        ip(&[&["-n", &network.registry], route.as_slice(), &[congestion.name()]].concat())?;
        Ok(network)
    }

    fn join(&self) -> anyhow::Result<()> {
        ip(&[
            "link",
            "add",
            "eth0",
            "netns",
            &self.host,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &self.registry,
        ])?;
        self.bring_up()
    }

    fn bring_up(&self) -> anyhow::Result<()> {
        for (name, address, peer) in [
            (&self.host, HOST_ADDRESS, REGISTRY_ADDRESS),
            (&self.registry, REGISTRY_ADDRESS, HOST_ADDRESS),
        ] {
            ip(&["-n", name, "addr", "add", address, "peer", peer, "dev", "eth0"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    /// What the registry sends is held to the rate; at most 50 ms of it wait.
    fn shape(&self) -> anyhow::Result<()> {
        let tc = find("tc").context("tc is not installed")?;
        let rate = format!("{RATE_BITS}bit");
        run_quietly(Command::new(tc).args([
            "-n",
            &self.registry,
            "qdisc",
            "add",
            "dev",
            "eth0",
            "root",
            "tbf",
            "rate",
            &rate,
            "burst",
            "32kb",
            "latency",
            "50ms",
        ]))
    }

    /// A command on the host's side.
    pub fn in_host(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        in_namespace(&self.host, program)
    }

    /// A command on the registry's side.
    pub fn in_registry(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        in_namespace(&self.registry, program)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// `ip netns exec` becomes the program: its process is the command's.
fn in_namespace(name: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(find("ip").unwrap_or_else(|| "ip".into()));
    command.args(["netns", "exec", name]).arg(program);
    command
}

/// PATH with the directories that a user's may lack.
fn with_root_programs() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Runs `ip`.
pub fn ip(args: &[&str]) -> anyhow::Result<()> {
    let Some(ip) = find("ip") else {
        bail!("ip is not installed");
    };
    run_quietly(Command::new(ip).args(args))
}
