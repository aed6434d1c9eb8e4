//! One microVM behind one small interface: start it, talk to it over vsock, learn how it ended.
//!
//! This crate takes open files, paths and numbers. It knows no release, no instance and no protocol.
//!
//! ```text
//! Backend::find ────> Backend ───┐
//! Backend::vsock ──── listen ───┤
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
//! The virtual machine monitor is Firecracker in its jail, or QEMU's `microvm` machine: [`Backend::find`] chooses. A start
//! that succeeds means the same for both, that the guest's processors run, and VMs end with the same [`ExitCause`]s.
//! With a jail the sockets of vsock are in there: [`Backend::vsock`] knows where. What of a jail outlives a process that
//! was killed, [`Jail::remove`] takes away later.

mod accelerator;
mod backend;
mod choice;
mod config;
mod console;
mod exit;
mod firecracker;
mod host;
mod jail;
mod kvm;
mod process;
mod qemu;
mod start_error;
pub mod tap;
mod vm;
mod vsock;
mod wish;

pub use accelerator::{Accelerator, AcceleratorChoice, UnknownAccelerator};
pub use backend::{Backend, DetectError, QemuPrograms};
pub use choice::{ChoiceError, ChosenVmm, UnknownVmm, Vmm as VmmKind, VmmChoice, VmmFacts, choose};
pub use config::{
    CONSOLE_BYTES_MAX_DEFAULT, ConfigError, Disk, DiskAccess, MacAddress, MacAddressError,
    START_TIMEOUT_DEFAULT, TapConfig, VmConfig, VmImage,
};
pub use exit::{ExitCause, VmExit};
pub use firecracker::{ApiError, DiskError, Firecracker, FirecrackerVersion, Isolation, VersionError};
pub use host::{CheckState, HostCheck, HostFacts};
pub use jail::{Jail, JailCgroup, JailError, JailRemoveError, JailUser, Jailer, UnknownJailUser};
pub use kvm::{KvmFact, ProbeCommand, ProbeError, probe_if_asked};
pub use qemu::QmpError;
pub use start_error::StartError;
pub use vm::Vm;
pub use vsock::{ConnectError, ListenError, SocketPathTooLong, VsockListener, VsockPath};
pub use wish::{FoundVmm, JAIL_CGROUP_DEFAULT, JAIL_USER_DEFAULT, JailWish, VmmWish};
