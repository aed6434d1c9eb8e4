//! The VMM's process: a child, or what the jailer leaves behind in a namespace of its own.
//!
//! ```text
//! without a jail   spawn ─> child                         its status is known
//! in a jail        spawn ─> jailer ─ends─> VMM, by pidfd   its status is init's: how it ended is in its log
//! ```

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::process::ChildStdout;
use tokio::time::timeout;

use crate::jail::{Inmate, Jail};
use crate::process::Process;
use crate::start_error::StartError;

/// A number and a newline.
const PID_BYTES_MAX: usize = 16;
/// From SIGKILL to the end: the kernel takes back the guest's memory in that time.
const END_MAX: Duration = Duration::from_secs(5);

/// A VMM. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Vmm {
    /// The child: the VMM itself, or the jailer.
    child: Process,
    jail: Option<Jail>,
    inmate: Option<Watched>,
}

/// An inmate, and a descriptor of it that is readable once it has ended. It is ended when this is dropped.
#[derive(Debug)]
struct Watched {
    inmate: Inmate,
    end: Receiver,
}

impl Watched {
    fn new(inmate: Inmate) -> io::Result<Watched> {
        let descriptor = inmate.pidfd.try_clone()?;
        // No pipe, but what a pipe's end tells is what a process's descriptor tells: readable, from the end on.
        Ok(Watched {
            end: Receiver::from_owned_fd_unchecked(descriptor)?,
            inmate,
        })
    }

    async fn ended(&self) {
        let _ = self.end.readable().await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.inmate.kill();
    }
}

/// The jailer did not leave a VMM behind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VmmError {
    #[error("the jailer ended with {0}")]
    Jailer(ExitStatus),
    #[error("the jailer can't be waited for")]
    Wait(#[source] io::Error),
    #[error("the jailer left no process number at {}", .0.display())]
    NoPid(PathBuf),
    #[error("the process that the jailer started has ended")]
    Gone,
    #[error("the process that the jailer started can't be watched")]
    Watch(#[source] io::Error),
}

impl Vmm {
    /// Starts the program: the VMM, or the jailer of this jail.
    pub(crate) fn spawn(program: &Path, args: &[OsString], jail: Option<&Jail>) -> Result<Vmm, StartError> {
        let child = Process::spawn(program, args, Stdio::piped())
            .map_err(|source| StartError::firecracker_spawn(program, source))?;
        Ok(Vmm {
            child,
            jail: jail.cloned(),
            inmate: None,
        })
    }

    /// Waits until the process that runs is the VMM. Without a jail it is from the start.
    pub(crate) async fn settle(&mut self) -> Result<(), VmmError> {
        let Some(jail) = &self.jail else {
            return Ok(());
        };
        let status = self.child.wait().await.map_err(VmmError::Wait)?;
        if !status.success() {
            return Err(VmmError::Jailer(status));
        }
        let root = jail.root();
        let pid = read_pid(jail)?;
        let inmate = Inmate::find(pid, &root).ok_or(VmmError::Gone)?;
        self.inmate = Some(Watched::new(inmate).map_err(VmmError::Watch)?);
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.inmate {
            Some(watched) => watched.inmate.pid,
            None => self.child.pid(),
        }
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.take_stdout()
    }

    /// Waits for the end; the status of a child. May be called again after it.
    pub(crate) async fn wait(&mut self) -> Option<ExitStatus> {
        match &self.inmate {
            Some(watched) => {
                watched.ended().await;
                None
            }
            None => self.child.wait().await.ok(),
        }
    }

    /// Ends it, if it has not ended; the status of a child.
    pub(crate) async fn end(&mut self) -> Option<ExitStatus> {
        match &self.inmate {
            Some(watched) => {
                watched.inmate.kill();
                if timeout(END_MAX, watched.ended()).await.is_err() {
                    tracing::warn!(pid = self.pid(), "a killed vmm does not end");
                }
                None
            }
            None => {
                let status = self.child.end().await;
                // A jailer that was killed may have left somebody behind, who still has our pipes.
                if let Some(jail) = &self.jail {
                    let _ = jail.end_inmates(Instant::now() + END_MAX);
                }
                status.filter(|_| self.jail.is_none())
            }
        }
    }

    /// The last words on standard error. To be called after the end.
    pub(crate) async fn stderr_tail(&mut self) -> String {
        self.child.stderr_tail().await
    }
}

/// The number that the jailer wrote beside the program that it copied into the jail, `<name>.pid`.
fn read_pid(jail: &Jail) -> Result<u32, VmmError> {
    let name = jail.dir.parent().and_then(Path::file_name).unwrap_or_default();
    let mut file_name = name.to_os_string();
    file_name.push(".pid");
    let path = jail.root().join(file_name);
    let read = || -> Result<Vec<u8>, Errno> {
        use rustix::fs::{Mode, OFlags, open};
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = open(&path, flags, Mode::empty())?;
        let mut bytes = vec![0; PID_BYTES_MAX];
        let count = rustix::io::read(&file, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    };
    read()
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok())
        .ok_or(VmmError::NoPid(path))
}
