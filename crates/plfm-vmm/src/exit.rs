//! How a VM ended.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::console::Console;

/// The end of a VM. Every clone and every call of [`crate::Vm::wait`] tells the same.
#[derive(Debug, Clone)]
pub struct VmExit {
    /// What ended it.
    pub cause: ExitCause,
    /// How the VMM's process ended, if it could be waited for: a jailed one is nobody's child.
    pub status: Option<ExitStatus>,
    /// The line of the kernel's panic, as the guest printed it.
    pub kernel_panic: Option<String>,
    /// The last bytes of the console.
    pub console_tail: String,
    /// Whether `console.log` lacks what was beyond its limit.
    pub console_truncated: bool,
    /// The last bytes that the VMM wrote to its standard error and its log.
    pub stderr_tail: String,
    /// From the guest's first instruction to the end.
    pub ran_for: Duration,
}

/// What ended a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCause {
    /// The guest reset or powered off its machine. A kernel panic ends like this too.
    GuestReset,
    /// [`crate::Vm::kill`] was called or the [`crate::Vm`] was dropped.
    Killed,
    /// The VMM's process ended otherwise: it failed, or someone else ended it.
    VmmFailed,
    /// The guest's processors stopped (QEMU alone tells) for a reason that only a broken host has, such as an internal error of KVM.
    Stopped,
    /// The vsock daemon died, and the VM was ended because nobody could have spoken to it again.
    VsockLost,
}

impl ExitCause {
    /// A stable name.
    pub fn code(self) -> &'static str {
        match self {
            ExitCause::GuestReset => "guest_reset",
            ExitCause::Killed => "killed",
            ExitCause::VmmFailed => "vmm_failed",
            ExitCause::Stopped => "vm_stopped",
            ExitCause::VsockLost => "vsock_lost",
        }
    }
}

/// How a machine ended, once its processes are gone.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) cause: ExitCause,
    pub(crate) status: Option<ExitStatus>,
    /// What the VMM said last.
    pub(crate) words: String,
    pub(crate) ran_for: Duration,
}

impl VmExit {
    pub(crate) fn new(ended: Ended, console: &Console) -> VmExit {
        VmExit {
            cause: ended.cause,
            status: ended.status,
            kernel_panic: console.kernel_panic(),
            console_tail: console.tail(),
            console_truncated: console.is_truncated(),
            stderr_tail: ended.words,
            ran_for: ended.ran_for,
        }
    }

    /// The end of a VM whose processes were killed without anyone seeing how they ended.
    pub(crate) fn killed(console: &Console) -> VmExit {
        VmExit {
            cause: ExitCause::Killed,
            status: None,
            kernel_panic: console.kernel_panic(),
            console_tail: console.tail(),
            console_truncated: console.is_truncated(),
            stderr_tail: String::new(),
            ran_for: Duration::ZERO,
        }
    }
}

impl fmt::Display for VmExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kernel_panic, self.cause) {
            (Some(panic), _) => write!(f, "guest kernel panicked: {panic}"),
            (None, ExitCause::GuestReset) => f.write_str("guest reset its machine"),
            (None, ExitCause::Killed) => f.write_str("vm was killed"),
            (None, ExitCause::Stopped) => f.write_str("vm stopped with an error of the host"),
            (None, ExitCause::VsockLost) => f.write_str("vsock daemon of the vm died"),
            (None, ExitCause::VmmFailed) => match self.status {
                Some(status) => write!(f, "vmm ended with {status}"),
                None => f.write_str("vmm ended"),
            },
        }
    }
}
