//! Kernel, initramfs, manifest and provenance: deterministic bytes from recorded inputs.
//!
//! ```text
//! source tarball + fragment --build_kernel-->  BuiltKernel --+
//! checkout ------------build_guest_init-->     GuestInit   --+--> BuildInputs --assemble--> Release --write--> dir
//! busybox, CA bundle, epoch, build ids, key ------------------+
//! dir + keyring --verify_dir--> VerifiedRelease
//! ```
//!
//! Invariant: the same [`BuildInputs`] and key give the same bytes, whatever the directory, user, umask, clock,
//! locale and number of cores. Only the functions named `build_…`, `load_…`, `find_…`, `write` and `verify_dir`
//! touch the machine.

mod command;
pub mod elf;
mod epoch;
mod fault;
mod git;
mod guest_init;
mod initramfs;
mod inputs;
mod json;
mod kernel;
mod progress;
mod provenance;
mod release;

pub use command::RunError;
pub use epoch::{Epoch, EpochError};
pub use fault::{FAULT_CHANNEL, Fault, FaultRefused, check_fault, fault_in};
pub use git::{Checkout, find_checkout};
pub use guest_init::{
    GuestInit, GuestInitError, GuestInitRecord, build_guest_init, find_workspace, load_guest_init,
};
pub use initramfs::{
    ArchiveError, BUSYBOX_BYTES_MAX, CA_BUNDLE_BYTES_MAX, Entry, GUEST_INIT_BYTES_MAX, GzipLevel,
    INITRAMFS_BYTES_MAX, Initramfs, InitramfsContents, InitramfsError, Node, build_initramfs, entries, gzip,
    pack,
};
pub use inputs::{BuildInputs, RecordedInput};
pub use kernel::{
    BuiltKernel, CompiledKernel, DroppedOption, Fragment, FragmentError, KERNEL_FRAGMENT_DEFAULT,
    KERNEL_NEEDS, KERNEL_SOURCE_DEFAULT, KernelError, KernelInputs, KernelNeed, KernelOrigin, KernelRecord,
    KernelTree, UnmetNeed, build_kernel, kernel_cache_dir,
};
pub use progress::{Event, Phase, Progress};
pub use provenance::{PROVENANCE_BYTES_MAX, ProvenanceError, check_provenance};
pub use release::{
    AssembleError, KERNEL_CONFIG_FILE, MANIFEST_FILE, Overwrite, PROVENANCE_FILE, ProvenanceStatus, Release,
    VerifiedRelease, VerifyDirError, WriteError, Written, assemble, load_manifest, verify_dir,
};
