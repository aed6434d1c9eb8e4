//! A running VM and the one task that owns its processes.
//!
//! ```text
//!            ┌─ guest resets: QEMU says so and ends ──────> GuestReset
//!            ├─ QEMU says that the processors stopped ────> Stopped      (and is ended)
//! Running ───┼─ QEMU ends without having said so ─────────> VmmFailed
//!            ├─ the vsock daemon ends before QEMU does ───> VsockLost    (and QEMU is ended)
//!            └─ kill, or the Vm is dropped ───────────────> Killed       (and QEMU is ended)
//! ```
//!
//! The exit is made once, after every process was reaped and the console read to its end, and published on a
//! watch channel: whoever waits, however often and however late, sees the same one.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::backend::Backend;
use crate::config::VmConfig;
use crate::console::Console;
use crate::exit::{ExitCause, VmExit};
use crate::qemu::{self, Event, LAST_WORDS_MAX, Machine, Qmp, QmpError};
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
        let vsock = config.check()?;
        let machine = match backend {
            Backend::Qemu {
                accelerator,
                programs,
            } => qemu::launch(*accelerator, programs, &config, &vsock).await?,
        };
        let (kill, killed) = mpsc::channel(1);
        let (exited, exit) = watch::channel(None);
        let vm = Vm {
            vsock,
            console: machine.console.clone(),
            console_log: config.dir.join("console.log"),
            pids: vec![machine.qemu.pid(), machine.vsock_daemon.pid()],
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

async fn supervise(
    mut machine: Machine,
    mut killed: mpsc::Receiver<()>,
    exited: watch::Sender<Option<VmExit>>,
) {
    let started = Instant::now();
    let (cause, status) = watch_machine(&mut machine, &mut killed).await;
    let ran_for = started.elapsed();
    machine.vsock_daemon.end().await;
    // The pipe's only writer is gone, so its end comes; if the kernel disagrees, the tail so far has to do.
    if timeout(LAST_WORDS_MAX, &mut machine.capture).await.is_err() {
        machine.capture.abort();
    }
    let exit = VmExit {
        cause,
        status,
        kernel_panic: machine.console.kernel_panic(),
        console_tail: machine.console.tail(),
        console_truncated: machine.console.is_truncated(),
        stderr_tail: machine.qemu.stderr_tail().await,
        ran_for,
    };
    drop(machine);
    tracing::debug!(cause = exit.cause.code(), "vm ended");
    // Nobody has to be interested.
    let _ = exited.send(Some(exit));
}

/// Returns once QEMU has ended, with why.
async fn watch_machine(
    machine: &mut Machine,
    killed: &mut mpsc::Receiver<()>,
) -> (ExitCause, Option<ExitStatus>) {
    let Machine {
        qemu,
        vsock_daemon,
        qmp,
        ..
    } = machine;
    let mut said = Said::Nothing;
    loop {
        tokio::select! {
            event = qmp.event(), if said == Said::Nothing => match event {
                Ok(Event::Stopped) => return (ExitCause::Stopped, qemu.end().await),
                other => said = Said::hear(other),
            },
            status = qemu.wait() => return (last_word(qmp, said).await, status.ok()),
            _ = killed.recv() => {
                let status = qemu.end().await;
                // A guest that was gone before the kill is not a killed one.
                let cause = if said == Said::GuestShutdown { ExitCause::GuestReset } else { ExitCause::Killed };
                return (cause, status);
            }
            _ = vsock_daemon.wait() => return match timeout(LAST_WORDS_MAX, qemu.wait()).await {
                // It was QEMU that left first.
                Ok(status) => (last_word(qmp, said).await, status.ok()),
                Err(_) => (ExitCause::VsockLost, qemu.end().await),
            },
        }
    }
}

/// What QEMU said about its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    GuestShutdown,
    Goodbye,
}

impl Said {
    fn hear(event: Result<Event, QmpError>) -> Said {
        match event {
            Ok(Event::GuestShutdown) => Said::GuestShutdown,
            Ok(Event::HostShutdown | Event::Stopped) | Err(_) => Said::Goodbye,
        }
    }
}

/// The cause of the end of a QEMU that has ended. Its word may still be unread.
async fn last_word(qmp: &mut Qmp, said: Said) -> ExitCause {
    let said = match said {
        Said::Nothing => timeout(LAST_WORDS_MAX, qmp.event())
            .await
            .map_or(Said::Goodbye, Said::hear),
        Said::GuestShutdown | Said::Goodbye => said,
    };
    match said {
        Said::GuestShutdown => ExitCause::GuestReset,
        Said::Nothing | Said::Goodbye => ExitCause::VmmFailed,
    }
}
