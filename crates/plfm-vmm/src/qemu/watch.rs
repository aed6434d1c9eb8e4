//! Watching a QEMU until it has ended, and why it did.

use std::process::ExitStatus;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::Machine;
use super::qmp::{Event, Qmp, QmpError};
use crate::exit::{Ended, ExitCause};
use crate::process::LAST_WORDS_MAX;

impl Machine {
    /// QEMU and the vsock daemon.
    pub(crate) fn pids(&self) -> Vec<u32> {
        vec![self.qemu.pid(), self.vsock_daemon.pid()]
    }

    /// Waits for the end, or brings it about when `killed` has a message or is closed. Then no process is left.
    pub(crate) async fn run(&mut self, killed: &mut mpsc::Receiver<()>) -> Ended {
        let started = Instant::now();
        let (cause, status) = watch(self, killed).await;
        let ran_for = started.elapsed();
        self.vsock_daemon.end().await;
        Ended {
            cause,
            status,
            words: self.qemu.stderr_tail().await,
            ran_for,
        }
    }
}

/// Returns once QEMU has ended, with why.
async fn watch(machine: &mut Machine, killed: &mut mpsc::Receiver<()>) -> (ExitCause, Option<ExitStatus>) {
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
