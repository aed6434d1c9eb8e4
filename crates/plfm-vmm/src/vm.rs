//! A running VM and the one task that owns its processes.
//!
//! ```text
//!            ┌─ guest resets: the VMM says so and ends ───> GuestReset
//!            ├─ the processors stopped (QEMU) ────────────> Stopped      (and it is ended)
//! Running ───┼─ the VMM ends without having said so ──────> VmmFailed
//!            ├─ the vsock daemon ends (QEMU) ─────────────> VsockLost    (and it is ended)
//!            └─ kill, or the Vm is dropped ───────────────> Killed       (and it is ended)
//! ```
//!
//! The exit is made once, after every process was reaped and the console read to its end, and published on a
//! watch channel: whoever waits, however often and however late, sees the same one.

use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::config::VmConfig;
use crate::console::Console;
use crate::exit::{Ended, VmExit};
use crate::firecracker;
use crate::process::LAST_WORDS_MAX;
use crate::qemu;
use crate::start_error::StartError;
use crate::vsock::VsockPath;

/// One running VM. Dropping it kills it.
#[derive(Debug)]
pub struct Vm {
    vsock: VsockPath,
    console: Console,
    console_log: PathBuf,
    pids: Vec<u32>,
    /// A message or the end of the channel kills the VM.
    kill: mpsc::Sender<()>,
    exit: watch::Receiver<Option<VmExit>>,
}

impl Vm {
    /// Starts a VM. On success the guest's processors run.
    ///
    /// What the guest connects to early must be listened on before, see [`VsockPath::listen`].
    ///
    /// Giving the future up kills what it had started. Only then may a socket stay behind in the directory: one
    /// that a process was making while it was killed.
    pub async fn start(backend: &Backend, config: VmConfig) -> Result<Vm, StartError> {
        config.check()?;
        let vsock = backend.vsock(&config.dir)?;
        let machine = match backend {
            Backend::Qemu {
                accelerator,
                programs,
            } => Machine::Qemu(qemu::launch(*accelerator, programs, &config, &vsock).await?),
            Backend::Firecracker(firecracker) => {
                Machine::Firecracker(firecracker::launch(firecracker, &config, &vsock).await?)
            }
        };
        let (kill, killed) = mpsc::channel(1);
        let (exited, exit) = watch::channel(None);
        let vm = Vm {
            vsock,
            console: machine.console().clone(),
            console_log: config.dir.join("console.log"),
            pids: machine.pids(),
            kill,
            exit,
        };
        tokio::spawn(supervise(machine, killed, exited));
        Ok(vm)
    }

    /// Waits for the end. Any number of callers, any number of times.
    pub async fn wait(&self) -> VmExit {
        let mut exit = self.exit.clone();
        let published = exit
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|exit| exit.clone());
        // Without a publisher the runtime is shutting down, and that killed the processes.
        published.unwrap_or_else(|| VmExit::killed(&self.console))
    }

    /// The end, if it has come.
    pub fn exit(&self) -> Option<VmExit> {
        self.exit.borrow().clone()
    }

    /// Ends the VM at once, as pulling the plug does, and waits until nothing is left of it.
    pub async fn kill(&self) -> VmExit {
        // A full channel has a kill in it already, and a closed one has ended.
        let _ = self.kill.try_send(());
        self.wait().await
    }

    /// The host's end of its vsock.
    pub fn vsock(&self) -> &VsockPath {
        &self.vsock
    }

    /// The processes that the VM was started as, the VMM first.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// The file with the console's output. It grows while the VM runs and stays after it.
    pub fn console_log(&self) -> &Path {
        &self.console_log
    }

    /// The last bytes of the console so far.
    pub fn console_tail(&self) -> String {
        self.console.tail()
    }

    /// The kernel panic on the console so far.
    pub fn kernel_panic(&self) -> Option<String> {
        self.console.kernel_panic()
    }
}

/// What runs the guest. Dropping it ends it.
#[derive(Debug)]
enum Machine {
    Qemu(qemu::Machine),
    Firecracker(firecracker::Machine),
}

impl Machine {
    fn console(&self) -> &Console {
        match self {
            Machine::Qemu(machine) => &machine.console,
            Machine::Firecracker(machine) => &machine.console,
        }
    }

    fn capture(&mut self) -> &mut JoinHandle<()> {
        match self {
            Machine::Qemu(machine) => &mut machine.capture,
            Machine::Firecracker(machine) => &mut machine.capture,
        }
    }

    fn pids(&self) -> Vec<u32> {
        match self {
            Machine::Qemu(machine) => machine.pids(),
            Machine::Firecracker(machine) => vec![machine.pid()],
        }
    }

    async fn run(&mut self, killed: &mut mpsc::Receiver<()>) -> Ended {
        match self {
            Machine::Qemu(machine) => machine.run(killed).await,
            Machine::Firecracker(machine) => machine.run(killed).await,
        }
    }
}

async fn supervise(
    mut machine: Machine,
    mut killed: mpsc::Receiver<()>,
    exited: watch::Sender<Option<VmExit>>,
) {
    let ended = machine.run(&mut killed).await;
    // The pipe's only writer is gone, so its end comes; if the kernel disagrees, the tail so far has to do.
    if timeout(LAST_WORDS_MAX, machine.capture()).await.is_err() {
        machine.capture().abort();
    }
    let exit = VmExit::new(ended, machine.console());
    drop(machine);
    tracing::debug!(cause = exit.cause.code(), "vm ended");
    // Nobody has to be interested.
    let _ = exited.send(Some(exit));
}
