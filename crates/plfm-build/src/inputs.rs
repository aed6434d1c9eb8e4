//! What a release is made from.

use plfm_release::{BuildId, Channel, Compatibility, Protocol, Sha256Digest, Variant};

use crate::{BuiltKernel, Checkout, Epoch, GuestInit, GzipLevel};

/// Everything that a release's bytes depend on: the same inputs give the same release, byte for byte.
#[derive(Debug, Clone)]
pub struct BuildInputs {
    /// Who the release is for.
    pub channel: Channel,
    /// What it is built for.
    pub variant: Variant,
    /// The kernel.
    pub kernel: BuiltKernel,
    /// File name of the kernel's source, for the provenance.
    pub kernel_source_name: String,
    /// The build id in the kernel's name.
    pub kernel_build_id: BuildId,
    /// Guest init.
    pub guest_init: GuestInit,
    /// The protocol that guest init's hello names.
    pub guest_init_protocol: Protocol,
    /// busybox, for a rescue shell.
    pub busybox: Option<Vec<u8>>,
    /// Certificates of authorities.
    pub ca_bundle: Option<Vec<u8>>,
    /// The build id in the initramfs's name.
    pub initramfs_build_id: BuildId,
    /// How hard the initramfs is compressed.
    pub gzip_level: GzipLevel,
    /// What the release asks of an agent.
    pub compatibility: Compatibility,
    /// The time that the build pretends it is.
    pub epoch: Epoch,
    /// The checkout that guest init is from, if it is from one.
    pub checkout: Option<Checkout>,
}

/// An input, by name and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedInput {
    /// What it is.
    pub name: String,
    /// Its digest.
    pub sha256: Sha256Digest,
}

impl BuildInputs {
    /// Every input that is a file, with its digest.
    pub fn recorded(&self) -> Vec<RecordedInput> {
        let input = |name: &str, sha256| RecordedInput {
            name: name.to_owned(),
            sha256,
        };
        let content = |name: &str, bytes: &[u8]| input(name, Sha256Digest::of(bytes));
        let mut inputs = vec![
            input(&self.kernel_source_name, self.kernel.record.source_sha256),
            input("kernel-config-fragment", self.kernel.fragment_sha256),
            content("guest-init", &self.guest_init.program),
        ];
        if let Some(record) = &self.guest_init.record {
            inputs.push(input("Cargo.lock", record.lockfile_sha256));
            inputs.extend(record.libc_sha256.map(|sha256| input("libc.a", sha256)));
        }
        inputs.extend(self.busybox.as_deref().map(|bytes| content("busybox", bytes)));
        inputs.extend(
            self.ca_bundle
                .as_deref()
                .map(|bytes| content("ca-certificates.crt", bytes)),
        );
        inputs
    }
}
