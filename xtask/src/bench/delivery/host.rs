//! One fetch, from nothing: an agent on one side, the registry's server on the other.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

use super::link::{Network, REGISTRY_ADDRESS};
use super::registry::{Offer, Registry};
use crate::lab::Lab;
use crate::shell::{read, timed};

const PORT: u16 = 8470;

/// What one fetch took.
pub struct Fetch {
    /// From the command's start to its end: the release is installed and current.
    pub took_ms: u64,
    /// The most memory that the agent has had resident, its program's pages included (VmHWM, proc(5)).
    pub memory_peak_kib: u64,
    /// The same just before the fetch.
    pub memory_before_kib: u64,
}

/// Fetches and installs once.
pub fn fetch_once(
    lab: &Lab,
    registry: &Registry,
    network: &Network,
    offer: &Offer,
    scratch: &Path,
) -> anyhow::Result<Fetch> {
    // The state is on the disk that the checkout is on; sockets need a short path.
    let state = tempfile::tempdir_in(scratch)?;
    let run = tempfile::Builder::new().prefix("plfm-bench-").tempdir()?;
    let url = format!("http://{REGISTRY_ADDRESS}:{PORT}");
    let agent = Process::start(
        network
            .in_host(lab.bin.join("plfm-agent"))
            .arg("--state-dir")
            .arg(state.path())
            .arg("--run-dir")
            .arg(run.path())
            .arg("--keyring")
            .arg(lab.keyring())
            .args(["--registry", &url, "--registry-root"])
            .arg(&registry.root)
            .arg("--no-network"),
        Says::OnError,
        // The server starts after the agent has looked for it in vain: nothing of it is there beforehand.
        &["ready", "the registry was not read"],
    )?;
    let _server = Process::start(
        network
            .in_registry(lab.bin.join("plfm"))
            .args(["registry", "serve"])
            .arg(&registry.dir)
            .args(["--listen", &format!("{REGISTRY_ADDRESS}:{PORT}")]),
        Says::OnOutput,
        &["serving"],
    )?;

    let memory_before_kib = agent.memory_peak_kib()?;
    let (_, took_ms) = timed(|| {
        read(
            lab.plfm()
                .arg("--agent")
                .arg(run.path().join("agent.sock"))
                .args(["release", "fetch", offer.build_id, "--current"]),
        )
    })?;
    let memory_peak_kib = agent.memory_peak_kib()?;
    if !state.path().join("kernels/current").exists() {
        bail!("the release was fetched and is not current");
    }
    Ok(Fetch {
        took_ms,
        memory_peak_kib,
        memory_before_kib,
    })
}

/// Where a program says that it is ready.
#[derive(Clone, Copy)]
enum Says {
    OnOutput,
    OnError,
}

/// A program of this task's own; ended when dropped.
struct Process(Child);

impl Process {
    /// Starts it and waits until it has printed each of `texts`. What comes afterwards is read and thrown away.
    fn start(command: &mut Command, says: Says, texts: &[&str]) -> anyhow::Result<Self> {
        let (output, error) = match says {
            Says::OnOutput => (Stdio::piped(), Stdio::null()),
            Says::OnError => (Stdio::null(), Stdio::piped()),
        };
        let child = command
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(error)
            .spawn()
            .context("cannot run ip")?;
        let mut process = Self(child);
        let output = process.0.stdout.take().map(|pipe| Box::new(pipe) as Pipe);
        let error = process.0.stderr.take().map(|pipe| Box::new(pipe) as Pipe);
        let mut lines = BufReader::new(output.or(error).context("a pipe is there")?);
        let mut seen = String::new();
        while !texts.iter().all(|text| seen.contains(text)) {
            if lines.read_line(&mut seen)? == 0 {
                bail!("it ended before it said {texts:?}:\n{seen}");
            }
        }
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(process)
    }

    fn memory_peak_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.trim().parse().ok())
            .context("the process has no VmHWM")
    }
}

type Pipe = Box<dyn Read + Send>;

impl Drop for Process {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}
