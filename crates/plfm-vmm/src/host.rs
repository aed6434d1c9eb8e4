//! What a host of VMs needs, what this one has, and what to do about the difference.
//!
//! [`HostFacts::probe`] looks, [`HostFacts::checks`] judges: a pure function, so that what an operator reads can be tested
//! without the host that it is about.

mod checks;
mod probe;

use std::path::PathBuf;

use crate::kvm::KvmFact;
use crate::tap::TapSupport;

/// What was found on a host.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// The kernel's release, `6.1.0-18-amd64`.
    pub kernel: String,
    /// The processor's model.
    pub processor: String,
    /// Whether this machine is a guest itself.
    pub is_guest: bool,
    /// KVM.
    pub kvm: KvmFact,
    /// Firecracker with its jailer and the jails' user, or what is missing.
    pub firecracker: Result<String, String>,
    /// QEMU and its vsock daemon, or what is missing.
    pub qemu: Result<String, String>,
    /// The controllers of cgroup v2; `None` without cgroup v2.
    pub cgroup_controllers: Option<Vec<String>>,
    /// TAP devices.
    pub tap: TapSupport,
    /// `net.ipv6.conf.all.forwarding`; `None` without IPv6.
    pub forwards_ipv6: Option<bool>,
    /// Where `nft` is.
    pub nft: Option<PathBuf>,
    /// Where `mke2fs` is.
    pub mke2fs: Option<PathBuf>,
    /// How many files a process may have open.
    pub files_max: Option<u64>,
    /// Free bytes where instances are kept.
    pub disk_free_bytes: Option<u64>,
    /// All of the host's memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Whether two threads share a core.
    pub has_smt: Option<bool>,
    /// Whether equal pages of different VMs are merged.
    pub merges_pages: Option<bool>,
    /// Whether memory is swapped out to a disk.
    pub has_swap: bool,
    /// `user.max_user_namespaces`.
    pub user_namespaces_max: Option<u64>,
    /// What keeps the clock right.
    pub clock_keeper: Option<String>,
}

/// One thing that a host needs or should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCheck {
    /// What it is about: a stable name.
    pub what: &'static str,
    /// How it is.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do, unless all is well.
    pub fix: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// VMs run, but not as they should.
    Warn,
    /// No VM runs without it.
    Missing,
}

impl CheckState {
    /// A stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckState::Ok => "ok",
            CheckState::Warn => "warn",
            CheckState::Missing => "missing",
        }
    }
}
