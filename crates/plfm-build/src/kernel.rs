//! The kernel: from a source tarball and a configuration fragment to an ELF image that a VMM enters through PVH.
//!
//! Invariant: the bytes depend on the [`KernelRecord`] alone. So a kernel is kept under the record's digest, and one
//! that is there already is used, after its own digests were checked:
//!
//! ```text
//! <cache>/
//!   <digest>/            complete: renamed into place when everything in it was written and synced
//!     vmlinux            the image
//!     config             the whole .config
//!     inputs.json        the record, and the digests of the two files
//!   <digest>.lock        held by the one that builds
//!   <digest>.partial/    a build that goes on, or was killed; the next one removes it
//!   <digest>.log         everything that the last build printed
//! ```

mod cache;
mod compile;
mod config;
mod error;
mod needs;
mod source;
mod toolchain;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use plfm_release::{KernelVersion, Sha256Digest};
use serde::{Deserialize, Serialize};

use crate::progress::{Event, Phase, Progress, phase};
use cache::{Cache, Entry};
pub use compile::{CompiledKernel, KernelTree};
pub use config::{DroppedOption, Fragment, FragmentError};
pub use error::KernelError;
use needs::check_needs;
pub use needs::{KERNEL_NEEDS, KernelNeed, UnmetNeed};
pub(crate) use source::hash_file;
use toolchain::Toolchain;

/// Where Debian's package `linux-source-6.1` puts the source.
pub const KERNEL_SOURCE_DEFAULT: &str = "/usr/src/linux-source-6.1.tar.xz";
/// The configuration fragment of this project, `kernel/x86_64.config`.
pub const KERNEL_FRAGMENT_DEFAULT: &str = include_str!("../../../kernel/x86_64.config");
/// Version of how a kernel is made here; changed with each change that can change its bytes.
const RECIPE: u32 = 1;

/// What a kernel is built from, and where it is kept.
#[derive(Debug, Clone)]
pub struct KernelInputs {
    /// The source: a tarball with one top directory.
    pub source: PathBuf,
    /// What is added to `make allnoconfig`.
    pub fragment: Vec<u8>,
    /// What the configuration must have beyond what the fragment asks for: [`KERNEL_NEEDS`] for a kernel that guests
    /// boot. Does not change the bytes.
    pub needs: &'static [KernelNeed],
    /// The cache; see [`kernel_cache_dir`].
    pub cache: PathBuf,
    /// How many compilers run at once. Does not change the bytes.
    pub jobs: NonZeroUsize,
}

/// Everything that a kernel's bytes depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelRecord {
    /// Version of the recipe.
    pub recipe: u32,
    /// Digest of the source tarball.
    pub source_sha256: Sha256Digest,
    /// Digest of the options that the fragment asks for, sorted: a comment makes no other kernel.
    pub options_sha256: Sha256Digest,
    /// Program to the first line of its `--version`.
    pub tools: BTreeMap<String, String>,
}

impl KernelRecord {
    /// The digest of the record, under which the kernel is kept.
    pub fn digest(&self) -> Sha256Digest {
        // Only texts and integers: the serializer has nothing to fail on.
        Sha256Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// A kernel, built now or before.
#[derive(Debug, Clone)]
pub struct BuiltKernel {
    /// Version of the source.
    pub version: KernelVersion,
    /// The image.
    pub image: Vec<u8>,
    /// The whole `.config`.
    pub config: Vec<u8>,
    /// What it was built from.
    pub record: KernelRecord,
    /// Digest of the configuration fragment, as it was given.
    pub fragment_sha256: Sha256Digest,
    /// Whether it was built now.
    pub origin: KernelOrigin,
}

/// Whether a kernel was built now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelOrigin {
    /// It was in the cache.
    Cached,
    /// It was compiled.
    Compiled,
}

/// Where kernels are kept: `$XDG_CACHE_HOME/plfm/kernels`, else `$HOME/.cache/plfm/kernels`. A relative
/// `XDG_CACHE_HOME` does not count, as its specification has it.
pub fn kernel_cache_dir(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(xdg_cache_home).or_else(|| Some(absolute(home)?.join(".cache")))?;
    Some(base.join("plfm").join("kernels"))
}

/// The kernel that `inputs` give: from the cache if it is there whole, else compiled, which takes minutes.
///
/// # Errors
/// [`KernelError`]. The cache is then as it was.
pub fn build_kernel(inputs: &KernelInputs, progress: &mut dyn Progress) -> Result<BuiltKernel, KernelError> {
    let fragment = Fragment::parse(&inputs.fragment).map_err(KernelError::Fragment)?;
    let source_sha256 = phase(progress, Phase::HashKernelSource, |_| hash_source(inputs))?;
    let toolchain = Toolchain::require(&fragment)?;
    let record = KernelRecord {
        recipe: RECIPE,
        source_sha256,
        options_sha256: Sha256Digest::of(fragment.render().as_bytes()),
        tools: toolchain.versions.clone(),
    };
    let slot = Cache::open(&inputs.cache)?.lock(record.digest(), progress)?;
    let found = |entry: Entry, origin| BuiltKernel {
        version: entry.version,
        image: entry.image,
        config: entry.config,
        record: record.clone(),
        fragment_sha256: Sha256Digest::of(&inputs.fragment),
        origin,
    };
    match slot.load(&record)? {
        cache::Lookup::Whole(entry) => {
            let unmet = check_needs(inputs.needs, &String::from_utf8_lossy(&entry.config));
            if !unmet.is_empty() {
                return Err(KernelError::Insufficient(unmet));
            }
            progress.event(Event::Note(
                "using the kernel that was built before from the same inputs",
            ));
            return Ok(found(entry, KernelOrigin::Cached));
        }
        cache::Lookup::Damaged => {
            progress.event(Event::Note("the cached kernel is damaged: building it again"));
        }
        cache::Lookup::Absent => {}
    }
    let work = slot.begin()?;
    let entry = compile::compile(inputs, &fragment, toolchain, &work, slot.log(), progress)?;
    slot.store(&record, &entry)?;
    Ok(found(entry, KernelOrigin::Compiled))
}

fn hash_source(inputs: &KernelInputs) -> Result<Sha256Digest, KernelError> {
    hash_file(&inputs.source).map_err(|source| KernelError::Source {
        path: inputs.source.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_follows_xdg_and_a_relative_path_does_not_count() {
        let dir = |xdg: Option<&str>, home: Option<&str>| {
            kernel_cache_dir(xdg.map(OsString::from), home.map(OsString::from))
        };
        assert_eq!(dir(Some("/x"), Some("/h")), Some("/x/plfm/kernels".into()));
        assert_eq!(dir(Some("x"), Some("/h")), Some("/h/.cache/plfm/kernels".into()));
        assert_eq!(dir(Some(""), Some("/h")), Some("/h/.cache/plfm/kernels".into()));
        assert_eq!(dir(None, None), None);
    }
}
