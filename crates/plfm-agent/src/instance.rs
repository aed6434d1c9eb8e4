//! An instance: one task that owns its state, and a handle for everyone else.

mod conversation;
mod output;
mod plan;
mod prepare;
mod record;
mod request;
mod run;
mod verdict;
mod workload;

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plfm_api::Instance;
use plfm_cache::InstalledRelease;
use plfm_rollout::selection::Selection;
use plfm_vmm::Backend;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::agent::Obtained;
use crate::problem::chain;

pub use output::OutputLog;
pub use plan::BootPlan;
pub use record::{forget, recover, surplus};

/// From a VM's start to its guest's hello, unless the agent was told otherwise. An idle host needs 0.1 s with KVM, 1 s in
/// emulation.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
const HELLO_PATIENCE_EMULATED: Duration = Duration::from_secs(60);

/// How long a guest may take to its hello.
pub fn hello_patience(emulated: bool) -> Duration {
    match emulated {
        true => HELLO_PATIENCE_EMULATED,
        false => HELLO_PATIENCE,
    }
}

/// What an instance's task is asked to do.
#[derive(Debug)]
pub enum Command {
    /// End the workload, with this grace instead of its own.
    Stop { grace_seconds: Option<u32> },
    /// Send the workload a signal.
    Signal { signal: String },
}

/// Takes an instance whose boot is over, well or not, once its record is on disk. Once for each instance. May block.
pub type BootListener = Arc<dyn Fn(&Instance) + Send + Sync>;

/// What an instance boots, and why.
pub struct Chosen {
    pub release: InstalledRelease,
    pub selection: Selection,
    /// The image that it runs from, if not from a root disk that was brought.
    pub image: Option<Obtained>,
}

/// Where and on what an instance runs.
pub struct Setting {
    /// Its directory, for what outlives the VM.
    pub dir: PathBuf,
    /// Its directory for sockets, with a short path.
    pub run_dir: PathBuf,
    pub backend: Backend,
    /// The /64 of its address.
    pub prefix: Ipv6Addr,
    /// Why it gets no network interface, if it gets none.
    pub no_network: Option<&'static str>,
    /// How long the guest may take from its start to its hello.
    pub hello_patience: Duration,
    /// Who is told how the boot went.
    pub on_boot: BootListener,
}

/// How others see and reach an instance. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    view: watch::Receiver<Instance>,
    commands: mpsc::Sender<Command>,
    output: OutputLog,
    /// What runs it; none, if it is over.
    backend: Option<Backend>,
    run_dir: PathBuf,
    dir: PathBuf,
}

impl Handle {
    /// What it is now.
    pub fn view(&self) -> Instance {
        self.view.borrow().clone()
    }

    /// Asks its task for something. `false`: the task has ended.
    pub async fn send(&self, command: Command) -> bool {
        self.commands.send(command).await.is_ok()
    }

    /// Waits until it is as wanted, at most `patience`; then gives what it is.
    pub async fn wait(&self, wanted: impl Fn(&Instance) -> bool, patience: Duration) -> Instance {
        let mut view = self.view.clone();
        // Both a timeout and the end of the task leave the last view, which is the answer then.
        let _ = tokio::time::timeout(patience, view.wait_for(|instance| wanted(instance))).await;
        self.view()
    }

    /// What the workload wrote.
    pub fn output(&self) -> &OutputLog {
        &self.output
    }

    /// Where the console's output is: it stays when the VM is gone.
    pub fn console_log(&self) -> PathBuf {
        record::console_path(&self.dir, &self.run_dir)
    }

    /// Connects to a port of the guest. The error is for people.
    pub async fn connect(&self, port: u32, patience: Duration) -> Result<UnixStream, String> {
        let backend = self.backend.as_ref().ok_or("the instance is over")?;
        let vsock = backend.vsock(&self.run_dir).map_err(|error| chain(&error))?;
        vsock
            .connect(port, tokio::time::Instant::now() + patience)
            .await
            .map_err(|error| chain(&error))
    }
}

/// A name for the sockets' directory: the random end of the id, because a socket's path is at most 107 bytes long.
pub fn short_name(id: &str) -> String {
    id.chars()
        .skip(id.len().saturating_sub(10))
        .collect::<String>()
        .to_ascii_lowercase()
}

/// Starts an instance's task, which ends when the instance is over.
pub fn spawn(plan: BootPlan, setting: Setting) -> (Handle, Instance, JoinHandle<()>) {
    let view = plan.first_view(&setting);
    let (publish, views) = watch::channel(view.clone());
    let (commands, requests) = mpsc::channel(16);
    let output = OutputLog::new(&setting.dir);
    let (run_dir, dir) = (setting.run_dir.clone(), setting.dir.clone());
    let handle = Handle {
        view: views,
        commands,
        output: output.clone(),
        backend: Some(setting.backend.clone()),
        run_dir,
        dir,
    };
    let task = tokio::spawn(run::run(plan, setting, publish, requests, output));
    (handle, view, task)
}

/// The handle of an instance that is over, from its record.
fn ended_handle(view: Instance, dir: &Path) -> Handle {
    let (_, views) = watch::channel(view);
    let (commands, _) = mpsc::channel(1);
    let output = OutputLog::ended(dir);
    Handle {
        view: views,
        commands,
        output,
        backend: None,
        run_dir: dir.to_owned(),
        dir: dir.to_owned(),
    }
}
