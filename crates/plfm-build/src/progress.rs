//! What a build tells whoever waits for it. Drawing it is the caller's affair.

use std::fmt;

/// A step of a build that takes long enough to be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Hashing the kernel's source.
    HashKernelSource,
    /// Another build of the same kernel is running.
    AwaitKernelLock,
    /// Unpacking the kernel's source.
    UnpackKernel,
    /// Making the kernel's configuration.
    ConfigureKernel,
    /// Compiling the kernel.
    CompileKernel,
    /// Compiling guest init.
    CompileGuestInit,
    /// Packing the initramfs.
    PackInitramfs,
    /// Signing and writing the release.
    WriteRelease,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HashKernelSource => "hashing the kernel's source",
            Self::AwaitKernelLock => "waiting for another build of this kernel",
            Self::UnpackKernel => "unpacking the kernel's source",
            Self::ConfigureKernel => "configuring the kernel",
            Self::CompileKernel => "compiling the kernel",
            Self::CompileGuestInit => "compiling guest init",
            Self::PackInitramfs => "packing the initramfs",
            Self::WriteRelease => "writing the release",
        })
    }
}

/// Something that happened in a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A phase began.
    Started(Phase),
    /// A phase ended well.
    Finished(Phase),
    /// How many objects of the kernel are compiled by now.
    KernelObjects {
        /// Their number.
        built: u32,
    },
    /// Something worth a line, such as that a cached kernel is used.
    Note(&'a str),
}

/// Receives the events of a build. Every `FnMut(Event)` is one.
pub trait Progress {
    /// Takes one event.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> Progress for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// Runs `work` as `phase`. A phase that fails has no end: the error says so.
pub(crate) fn phase<T, E>(
    progress: &mut dyn Progress,
    phase: Phase,
    work: impl FnOnce(&mut dyn Progress) -> Result<T, E>,
) -> Result<T, E> {
    progress.event(Event::Started(phase));
    let result = work(progress)?;
    progress.event(Event::Finished(phase));
    Ok(result)
}
