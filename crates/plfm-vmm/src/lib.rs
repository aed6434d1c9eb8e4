//! One microVM behind one small interface: start it, talk to it over vsock, learn how it ended.
//!
//! This crate takes open files, paths and numbers. It knows no release, no instance and no protocol.
//!
//! ```text
//! Backend::detect ──> Backend ──┐
//! VsockPath::in_dir ─ listen ───┤
//! VmConfig ─────────────────────┴─> Vm::start ──> Running ──┬── the guest resets ───┐
//!                                       │                   ├── Vm::kill, drop(Vm) ─┤
//!                                       │                   └── a process dies ─────┴──> VmExit
//!                                       └──> StartError (nothing is left behind)
//! ```
//!
//! The invariant: whatever happens, every process, socket and file descriptor that [`Vm::start`] made is gone
//! once the start has failed, the [`VmExit`] can be seen, or the [`Vm`] was dropped and its runtime has run on.
//! What stays in the directory is `console.log`.
//!
//! The virtual machine monitor is QEMU's `microvm` machine. Firecracker fits behind the same interface: its
//! vsock has the same socket layout, a start that succeeds means the same (the guest's processors run), and the
//! ends of a VM are the same [`ExitCause`]s.

mod accelerator;
mod backend;
mod config;
mod console;
mod exit;
mod firecracker;
mod jail;
mod process;
mod qemu;
mod start_error;
pub mod tap;
mod vm;
mod vsock;

pub use accelerator::{Accelerator, AcceleratorChoice, UnknownAccelerator};
pub use backend::{Backend, DetectError, QemuPrograms};
pub use config::{
    CONSOLE_BYTES_MAX_DEFAULT, ConfigError, Disk, DiskAccess, MacAddress, MacAddressError,
    START_TIMEOUT_DEFAULT, TapConfig, VmConfig, VmImage,
};
pub use exit::{ExitCause, VmExit};
pub use firecracker::{ApiError, DiskError, Firecracker, FirecrackerVersion, Isolation, VersionError};
pub use jail::{Jail, JailCgroup, JailError, JailRemoveError, JailUser, Jailer};
pub use qemu::QmpError;
pub use start_error::StartError;
pub use vm::Vm;
pub use vsock::{ConnectError, ListenError, SocketPathTooLong, VsockListener, VsockPath};
