//! An agent of a task's own, without a control plane.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::lab::Lab;
use crate::shell::read;

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent of this task's own; ended when dropped.
pub struct Agent {
    process: Child,
    dir: tempfile::TempDir,
}

impl Agent {
    /// Starts it, in a directory of its own, with the lab's keyring.
    pub fn start(lab: &Lab, no_network: bool) -> anyhow::Result<Self> {
        let keyring = lab.keyring();
        let options = ["--keyring".as_ref(), keyring.as_os_str()];
        let off = no_network.then_some("--no-network".as_ref());
        Self::start_with(lab, options.into_iter().chain(off))
    }

    /// Starts it, in a directory of its own.
    pub fn start_with<'a>(lab: &Lab, options: impl IntoIterator<Item = &'a OsStr>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("plfm-demo-").tempdir()?;
        let log = std::fs::File::create(dir.path().join("agent.log"))?;
        let mut command = Command::new(lab.bin.join("plfm-agent"));
        command
            .arg("--state-dir")
            .arg(dir.path().join("state"))
            .arg("--run-dir")
            .arg(dir.path().join("run"));
        command.args(options);
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start plfm-agent")?;
        let mut agent = Self { process, dir };
        let deadline = Instant::now() + PATIENCE;
        while !agent
            .plfm(lab)
            .arg("host")
            .output()
            .is_ok_and(|output| output.status.success())
        {
            if agent.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!(
                    "the agent did not start:\n{}",
                    std::fs::read_to_string(agent.dir.path().join("agent.log"))?
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(agent)
    }

    fn plfm(&self, lab: &Lab) -> Command {
        let mut command = lab.plfm();
        command.arg("--agent").arg(self.dir.path().join("run/agent.sock"));
        command
    }

    /// Runs `plfm` against it and reads the JSON that it prints.
    pub fn json(&self, lab: &Lab, args: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&read(
            self.plfm(lab).args(["--output", "json"]).args(args),
        )?)?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // SIGTERM lets it stop its instances; it is our own child.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}
