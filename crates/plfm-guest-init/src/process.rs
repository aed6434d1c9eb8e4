//! Starting programs, and the one place that waits for them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use plfm_guest_protocol::{ExecStart, MemoryUse, Reason, Rlimit, Sensitive, Workload};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, WaitOptions};
use rustix::pty::OpenptFlags;

use crate::cgroup::Cgroup;
use crate::connection::Connection;
use crate::failure::StageError;
use crate::session::{OutputKind, Session, Stream};
use crate::sys::{Entry, enter_before_exec};
use crate::user::{self, Identity};

/// Where programs are looked for when the configuration has no PATH: what container runtimes use.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often it is looked for children that have ended where no signal tells.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
}

/// What there is to reap.
pub enum Reaped {
    /// This child has ended.
    Child(Pid, Ended),
    /// There are children, and all run.
    NoneYet,
    /// There are no children.
    NoChildren,
}

/// The next child that has ended: the only call of `wait` in guest init. Never waits.
pub fn reap() -> Reaped {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let ended = Ended {
                    exit_code: status.exit_status(),
                    signal: status.terminating_signal(),
                };
                return Reaped::Child(pid, ended);
            }
            Ok(None) => return Reaped::NoneYet,
            Err(Errno::INTR) => {}
            Err(_) => return Reaped::NoChildren,
        }
    }
}

/// Reaps until there are no children, at most for `patience`; whether there are none. `signals` tells when one has ended.
pub fn reap_all(patience: Duration, signals: Option<&SignalFd>) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        match reap() {
            Reaped::Child(..) => continue,
            Reaped::NoChildren => return true,
            Reaped::NoneYet => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let Some(signals) = signals else {
            std::thread::sleep(left.min(LOOK_EVERY));
            continue;
        };
        let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        while let Ok(Some(_)) = signals.read_signal() {}
    }
}

/// What guest init itself takes: `Rss` of `/proc/self/smaps_rollup`, in KiB. (`statm` is cheaper, and off by up to
/// 64 pages.)
pub fn own_memory() -> Option<MemoryUse> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(MemoryUse {
        rss_bytes: kib.saturating_mul(1024),
    })
}

/// A program that could not be started.
#[derive(Debug)]
pub struct StartError {
    pub detail: String,
    pub errno: Option<i32>,
}

impl StartError {
    fn new(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            errno: None,
        }
    }

    fn os(what: impl std::fmt::Display, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        Self {
            detail: format!("{what}: {error}"),
            errno: error.raw_os_error(),
        }
    }
}

struct Program<'a> {
    argv: &'a [String],
    env: BTreeMap<&'a str, &'a str>,
    cwd: &'a str,
    identity: &'a Identity,
    rlimits: Vec<(Resource, rustix::process::Rlimit)>,
    tty: Option<(u16, u16)>,
    stdin: bool,
    to_console: bool,
    pids_max: Option<u32>,
}

/// Starts the customer's workload.
pub fn start_workload(workload: &Workload, output: Option<Connection>) -> Result<Session, StageError> {
    let identity = workload_identity(workload);
    let started = identity.map_err(StartError::new).and_then(|identity| {
        let none = BTreeMap::new();
        let program = Program {
            argv: &workload.argv,
            env: environment(&workload.env, &none, &identity),
            cwd: &workload.cwd,
            identity: &identity,
            rlimits: rlimits(&workload.rlimits),
            tty: workload.tty.then_some((24, 80)),
            stdin: workload.stdin,
            to_console: output.is_none(),
            pids_max: workload.pids_max,
        };
        let cgroup =
            Cgroup::create("workload").map_err(|errno| StartError::os("cannot make a cgroup", errno))?;
        start(&program, cgroup, output)
    });
    started.map_err(|StartError { detail, errno }| StageError {
        reason: Reason::WorkloadStartFailed,
        detail,
        errno,
    })
}

/// Starts the program of an exec session, by default as the workload's user, in its environment and directory.
pub fn start_exec(
    request: &ExecStart,
    workload: &Workload,
    cgroup: Cgroup,
    connection: Connection,
) -> Result<Session, (StartError, Connection)> {
    let identity = match &request.user {
        Some(user) => user::look_up(user, &[]),
        None => workload_identity(workload),
    };
    let identity = match identity {
        Ok(identity) => identity,
        Err(detail) => {
            cgroup.remove();
            return Err((StartError::new(detail), connection));
        }
    };
    if request.argv.first().is_none_or(String::is_empty) {
        cgroup.remove();
        return Err((StartError::new("the exec request names no program"), connection));
    }
    let program = Program {
        argv: &request.argv,
        env: environment(&workload.env, &request.env, &identity),
        cwd: request.cwd.as_deref().unwrap_or(&workload.cwd),
        identity: &identity,
        rlimits: Vec::new(),
        tty: request.tty.then_some((request.rows, request.cols)),
        stdin: true,
        to_console: false,
        pids_max: None,
    };
    match start(&program, cgroup, None) {
        Ok(mut session) => {
            session.connection = Some(connection);
            Ok(session)
        }
        Err(error) => Err((error, connection)),
    }
}

fn workload_identity(workload: &Workload) -> Result<Identity, String> {
    match &workload.user {
        Some(user) => user::look_up(user, &workload.groups),
        None => user::look_up(&format!("{}:{}", workload.uid, workload.gid), &workload.groups),
    }
}

/// The configured environment, and what every program may expect of it: PATH and HOME.
fn environment<'a>(
    base: &'a BTreeMap<String, Sensitive>,
    extra: &'a BTreeMap<String, Sensitive>,
    identity: &'a Identity,
) -> BTreeMap<&'a str, &'a str> {
    let mut env = BTreeMap::from([("PATH", DEFAULT_PATH), ("HOME", identity.home.as_str())]);
    env.extend(
        base.iter()
            .chain(extra)
            .map(|(key, value)| (key.as_str(), value.reveal())),
    );
    env
}

fn rlimits(limits: &[Rlimit]) -> Vec<(Resource, rustix::process::Rlimit)> {
    let known = limits.iter().filter_map(|limit| {
        let resource = match limit.name.as_str() {
            "as" => Resource::As,
            "core" => Resource::Core,
            "cpu" => Resource::Cpu,
            "data" => Resource::Data,
            "fsize" => Resource::Fsize,
            "locks" => Resource::Locks,
            "memlock" => Resource::Memlock,
            "msgqueue" => Resource::Msgqueue,
            "nice" => Resource::Nice,
            "nofile" => Resource::Nofile,
            "nproc" => Resource::Nproc,
            "rss" => Resource::Rss,
            "rtprio" => Resource::Rtprio,
            "rttime" => Resource::Rttime,
            "sigpending" => Resource::Sigpending,
            "stack" => Resource::Stack,
            // The config's check knows the same names.
            _ => return None,
        };
        Some((
            resource,
            rustix::process::Rlimit {
                current: limit.soft,
                maximum: limit.hard,
            },
        ))
    });
    known.collect()
}

/// Starts a program in a cgroup, which goes again if that fails.
fn start(program: &Program<'_>, cgroup: Cgroup, output: Option<Connection>) -> Result<Session, StartError> {
    let started = start_in(program, &cgroup);
    if started.is_err() {
        cgroup.remove();
    }
    let mut session = started?;
    session.cgroup = Some(cgroup);
    session.connection = output;
    Ok(session)
}

fn start_in(program: &Program<'_>, cgroup: &Cgroup) -> Result<Session, StartError> {
    let name = program.argv.first().map(String::as_str).unwrap_or_default();
    let path = find_program(
        name,
        program.env.get("PATH").copied().unwrap_or_default(),
        program.cwd,
    )?;
    std::fs::create_dir_all(program.cwd).map_err(|error| {
        StartError::os(
            format_args!("cannot use the working directory {}", program.cwd),
            error,
        )
    })?;
    cgroup
        .limit_pids(program.pids_max)
        .map_err(|error| StartError::os("cannot limit the number of processes", error))?;
    let cgroup_procs = cgroup
        .open_procs()
        .map_err(|errno| StartError::os("cannot open a cgroup", errno))?;

    let mut command = Command::new(&path);
    command
        .arg0(name)
        .args(program.argv.iter().skip(1))
        .env_clear()
        .envs(&program.env);
    let mut session =
        wire(&mut command, program).map_err(|error| StartError::os("cannot make pipes", error))?;
    enter_before_exec(
        &mut command,
        Entry {
            cgroup_procs: Some(cgroup_procs),
            tty: program.tty.is_some(),
            rlimits: program.rlimits.clone(),
            uid: Uid::from_raw(program.identity.uid),
            gid: Gid::from_raw(program.identity.gid),
            groups: program
                .identity
                .groups
                .iter()
                .copied()
                .map(Gid::from_raw)
                .collect(),
            cwd: std::ffi::CString::new(program.cwd)
                .map_err(|_| StartError::new("the working directory holds a NUL"))?,
        },
    );
    let child = command.spawn().map_err(|error| {
        let missing_interpreter =
            error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) && path.contains('/');
        let exists = missing_interpreter && std::fs::exists(&path).unwrap_or(false);
        let why = if exists {
            " (the file is there, but its interpreter or dynamic loader is not)"
        } else {
            ""
        };
        StartError::os(format_args!("cannot start {name}{why}"), error)
    })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    session.pid = pid.ok_or_else(|| StartError::new("the kernel gave the workload no process id"))?;
    Ok(session)
}

/// A program without a slash is looked up in the configured PATH, as an image means it.
fn find_program(name: &str, path: &str, cwd: &str) -> Result<String, StartError> {
    if name.contains('/') {
        return Ok(name.to_owned());
    }
    let executable = |candidate: &String| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(candidate)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let candidates = path.split(':').map(|dir| match dir {
        "" => format!("{cwd}/{name}"),
        dir if dir.starts_with('/') => format!("{dir}/{name}"),
        dir => format!("{cwd}/{dir}/{name}"),
    });
    candidates.into_iter().find(executable).ok_or_else(|| StartError {
        detail: format!("there is no program {name:?} in the configured PATH"),
        errno: Some(Errno::NOENT.raw_os_error()),
    })
}

/// Connects the child's standard streams: a terminal, pipes, or the console.
fn wire(command: &mut Command, program: &Program<'_>) -> std::io::Result<Session> {
    let (uid, gid) = (
        Uid::from_raw(program.identity.uid),
        Gid::from_raw(program.identity.gid),
    );
    let mut session = Session::new();
    if let Some((rows, cols)) = program.tty {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&terminal)?;
        let end = rustix::pty::ioctl_tiocgptpeer(&terminal, flags)?;
        rustix::fs::fchown(&end, Some(uid), None)?;
        set_nonblocking(&terminal)?;
        command
            .stdin(Stdio::from(end.try_clone()?))
            .stdout(Stdio::from(end.try_clone()?))
            .stderr(Stdio::from(end));
        session.stdin = Some(terminal.try_clone()?);
        session.outputs.push(Stream {
            kind: OutputKind::Stdout,
            fd: terminal.try_clone()?,
        });
        session.terminal = Some(terminal);
        session.resize(rows, cols);
        return Ok(session);
    }
    if program.stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&write)?;
        rustix::fs::fchown(&read, Some(uid), Some(gid))?;
        command.stdin(Stdio::from(read));
        session.stdin = Some(write);
    } else {
        command.stdin(Stdio::null());
    }
    if program.to_console {
        // Inherited: /dev/console.
        return Ok(session);
    }
    let mut output = |kind| -> std::io::Result<Stdio> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&read)?;
        // Owned by the user, so that a program can open /dev/stdout again.
        rustix::fs::fchown(&write, Some(uid), Some(gid))?;
        session.outputs.push(Stream { kind, fd: read });
        Ok(Stdio::from(write))
    };
    command
        .stdout(output(OutputKind::Stdout)?)
        .stderr(output(OutputKind::Stderr)?);
    Ok(session)
}

fn set_nonblocking(fd: &OwnedFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd.as_fd())?;
    rustix::fs::fcntl_setfl(fd.as_fd(), flags | OFlags::NONBLOCK)
}
