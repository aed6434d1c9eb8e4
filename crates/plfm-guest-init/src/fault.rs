//! Faults that a build is given on purpose: the bad releases by which it is shown that bad releases are taken back.
//!
//! Compiled only with a feature `fault-…`, which `plfm release build --fault …` turns on; no feature is on by default.
//! Invariant: such a program holds [`MARK`], by which the builder knows it whatever its name, and makes no release of it
//! but for the channel `lab`; and it says on the console what it is.

use plfm_guest_protocol::Reason;

use crate::failure::StageError;
use crate::log;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing happens: no hello, no failure that is told.
    Hang,
    /// PID 1 exits, which is a kernel panic.
    KernelPanic,
    /// The network cannot be set up: the boot fails in its stage, with or without an interface.
    Network,
    /// The boot takes [`SLOW_BY`] longer, and is good otherwise.
    Slow,
}

/// The fault of this build. Of several, the first.
const FAULT: Fault = if cfg!(feature = "fault-hang") {
    Fault::Hang
} else if cfg!(feature = "fault-kernel-panic") {
    Fault::KernelPanic
} else if cfg!(feature = "fault-network") {
    Fault::Network
} else {
    Fault::Slow
};

/// What the builder looks for (`plfm_build::Fault`): these words, the fault's name, a semicolon.
pub const MARK: &str = match FAULT {
    Fault::Hang => "plfm-faulty-guest-init:hang;",
    Fault::KernelPanic => "plfm-faulty-guest-init:kernel-panic;",
    Fault::Network => "plfm-faulty-guest-init:network;",
    Fault::Slow => "plfm-faulty-guest-init:slow;",
};

/// Longer than any boot of an idle host takes, in emulation too; shorter than the deadline of the stage that it is in.
const SLOW_BY: std::time::Duration = std::time::Duration::from_secs(6);

/// As soon as PID 1 runs: before its watchdog, so that nothing of it is told.
pub fn at_start() {
    log::console(MARK);
    log::console("this guest init was built to fail, for tests alone; it must never run for a customer");
    match FAULT {
        Fault::Hang => loop {
            std::thread::park();
        },
        Fault::KernelPanic => std::process::exit(1),
        Fault::Network | Fault::Slow => {}
    }
}

/// In the stage `network`, before what it does.
pub fn in_network() -> Result<(), StageError> {
    match FAULT {
        Fault::Network => Err(StageError::new(
            Reason::NetConfigFailed,
            "this guest init was built to set up no network",
        )),
        Fault::Slow => {
            std::thread::sleep(SLOW_BY);
            Ok(())
        }
        Fault::Hang | Fault::KernelPanic => Ok(()),
    }
}
