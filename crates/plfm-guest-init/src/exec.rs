//! The exec service: the agent dials, one session a connection.
//!
//! ```text
//! Waiting --start--> Running --program ended, output drained--> Ending --peer closed--> gone
//!    |                  |
//!    | boot_log         | peer gone: HUP at once, TERM after 5 s, KILL after 30 s; and KILL after an hour
//!    +------------------+----------------------------------------> Ending
//! ```

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use plfm_guest_protocol::{
    EXEC_SESSION_SECONDS_MAX, EXEC_SESSIONS_MAX, ExecControl, ExecExit, FrameDecoder, FrameType, Workload,
    encode_frame,
};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::Pid;
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener};

use crate::cgroup::Cgroup;
use crate::connection::Connection;
use crate::process::{self, Ended};
use crate::session::Session;
use crate::sys;
use crate::watchdog::{Alarm, Watchdog};

/// How long a new connection may take to say what it wants.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// How long the peer may take to read the end and close.
const END_PATIENCE: Duration = Duration::from_secs(5);
const TERM_AFTER: Duration = Duration::from_secs(5);
const KILL_AFTER: Duration = Duration::from_secs(30);
/// Connections that wait for their first frame, at most: a peer that only dials costs nothing.
const WAITING_MAX: usize = 4;
/// Connections accepted in one turn of the loop, at most.
const ACCEPTED_A_TURN_MAX: usize = 16;
/// How soon it is looked again whether a cgroup is empty.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Connections that wait for their peer to close, at most; an older one goes first.
const ENDING_MAX: usize = 8;
/// How long output of a session that has ended is kept for a peer that does not take it.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// How long a session's start may take: its program, directory and user are on disks that may hang.
const START_MAX: Duration = Duration::from_secs(10);
/// How many names are tried for a session's cgroup: a workload that is root may have taken some.
const CGROUP_NAMES_MAX: usize = 16;
/// How long nobody is accepted after that failed, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

pub struct ExecService {
    listener: VsockListener,
    watchdog: Watchdog,
    /// Set while nobody is accepted.
    accept_again_at: Option<Instant>,
    /// Cgroups of sessions that are over whose last processes are still dying.
    emptying: Vec<Cgroup>,
    waiting: Vec<Waiting>,
    running: Vec<Running>,
    ending: Vec<Ending>,
    /// For the names of cgroups.
    started: u64,
}

struct Waiting {
    connection: Connection,
    decoder: FrameDecoder,
    deadline: Instant,
}

struct Running {
    session: Session,
    ended_at: Option<Instant>,
    gone_since: Option<Instant>,
    termed: bool,
    killed: bool,
}

struct Ending {
    connection: Connection,
    deadline: Instant,
}

impl ExecService {
    /// Listens on any context id: the guest has one, and need not know it.
    pub fn listen(port: u32, watchdog: Watchdog) -> std::io::Result<Self> {
        let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            watchdog,
            accept_again_at: None,
            emptying: Vec::new(),
            waiting: Vec::new(),
            running: Vec::new(),
            ending: Vec::new(),
            started: 0,
        })
    }

    /// Does what can be done now.
    pub fn advance(&mut self, now: Instant, workload: &Workload, boot_log: &[u8]) {
        self.accept(now);
        self.emptying.retain(|cgroup| !cgroup.remove());
        for waiting in std::mem::take(&mut self.waiting) {
            self.advance_waiting(waiting, now, workload, boot_log);
        }
        for mut running in std::mem::take(&mut self.running) {
            running.session.pump();
            running.enforce_limits(now);
            if running.is_over(now) {
                self.end(running, now);
            } else {
                self.running.push(running);
            }
        }
        self.ending.retain_mut(|ending| ending.advance(now));
    }

    /// Takes the agent's connections. Whoever else dials, a program in this guest too, is nobody: a session can be root.
    fn accept(&mut self, now: Instant) {
        if self.accept_again_at.is_some_and(|at| now < at) {
            return;
        }
        self.accept_again_at = None;
        for _ in 0..ACCEPTED_A_TURN_MAX {
            if self.waiting.len() >= WAITING_MAX {
                return;
            }
            match self.listener.accept() {
                Ok((stream, peer)) if peer.cid() == VMADDR_CID_HOST => self.waiting.push(Waiting {
                    connection: Connection::new(stream),
                    decoder: FrameDecoder::default(),
                    deadline: now + START_PATIENCE,
                }),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.accept_again_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn advance_waiting(&mut self, mut waiting: Waiting, now: Instant, workload: &Workload, boot_log: &[u8]) {
        let mut buffer = [0; 4096];
        if let Some(bytes) = waiting.connection.read(&mut buffer) {
            waiting.decoder.push(bytes);
        }
        match waiting.decoder.next_frame() {
            Ok(None) if waiting.connection.is_open() && now < waiting.deadline => self.waiting.push(waiting),
            Ok(None) => {}
            Ok(Some(frame)) if frame.kind == FrameType::Control => {
                match serde_json::from_slice::<ExecControl>(&frame.payload) {
                    Ok(ExecControl::Start(request)) => self.start(waiting, &request, workload, now),
                    Ok(ExecControl::BootLog) => {
                        waiting
                            .connection
                            .send(&encode_frame(FrameType::Stdout, boot_log));
                        self.finish(
                            waiting.connection,
                            &ExecExit {
                                exit_code: Some(0),
                                ..ExecExit::default()
                            },
                            now,
                        );
                    }
                    Ok(ExecControl::Resize { .. } | ExecControl::Signal { .. } | ExecControl::CloseStdin)
                    | Err(_) => {
                        self.refuse(
                            waiting.connection,
                            "exec_bad_request",
                            "the first frame is not a start",
                            now,
                        );
                    }
                }
            }
            Ok(Some(_)) => self.refuse(
                waiting.connection,
                "exec_bad_request",
                "the first frame is not a start",
                now,
            ),
            Err(error) => self.refuse(waiting.connection, "exec_bad_request", &error.to_string(), now),
        }
    }

    fn start(
        &mut self,
        waiting: Waiting,
        request: &plfm_guest_protocol::ExecStart,
        workload: &Workload,
        now: Instant,
    ) {
        if self.running.len() >= EXEC_SESSIONS_MAX {
            let detail = format!("the instance has {EXEC_SESSIONS_MAX} exec sessions already");
            return self.refuse(waiting.connection, "exec_too_many_sessions", &detail, now);
        }
        let cgroup = match self.fresh_cgroup() {
            Ok(cgroup) => cgroup,
            Err(errno) => {
                let detail = format!("cannot make a cgroup: {errno}");
                return self.refuse(waiting.connection, "exec_start_failed", &detail, now);
            }
        };
        let before = self.watchdog.exchange(Some(Alarm {
            deadline: now + START_MAX,
            kill_first: Some(cgroup.clone()),
            text: "starting an exec session hangs; rebooting with what is mounted".to_owned(),
            report: Vec::new(),
        }));
        let started = process::start_exec(request, workload, cgroup, waiting.connection);
        self.watchdog.exchange(before);
        match started {
            Ok(mut session) => {
                session.decoder = waiting.decoder;
                session.take_frames();
                self.running.push(Running {
                    session,
                    ended_at: None,
                    gone_since: None,
                    termed: false,
                    killed: false,
                });
            }
            Err((error, connection)) => self.refuse(connection, "exec_start_failed", &error.detail, now),
        }
    }

    fn fresh_cgroup(&mut self) -> rustix::io::Result<Cgroup> {
        for _ in 0..CGROUP_NAMES_MAX {
            self.started += 1;
            match Cgroup::create(&format!("exec-{}", self.started)) {
                Err(Errno::EXIST) => {}
                made => return made,
            }
        }
        Err(Errno::EXIST)
    }

    fn refuse(&mut self, connection: Connection, code: &str, detail: &str, now: Instant) {
        let exit = ExecExit {
            error: Some(code.to_owned()),
            detail: Some(detail.to_owned()),
            ..ExecExit::default()
        };
        self.finish(connection, &exit, now);
    }

    fn end(&mut self, running: Running, now: Instant) {
        let Running { session, killed, .. } = running;
        if let Some(cgroup) = session.cgroup
            && !cgroup.remove()
        {
            self.emptying.push(cgroup);
        }
        let (Some(connection), Some(ended)) = (session.connection, session.ended) else {
            return;
        };
        let timed_out = killed.then(|| "exec_session_ended".to_owned());
        let exit = ExecExit {
            exit_code: ended.exit_code,
            signal: ended.signal,
            error: timed_out,
            detail: None,
        };
        self.finish(connection, &exit, now);
    }

    fn finish(&mut self, mut connection: Connection, exit: &ExecExit, now: Instant) {
        connection.send(&exit.to_frame());
        if self.ending.len() >= ENDING_MAX {
            self.ending.remove(0);
        }
        self.ending.push(Ending {
            connection,
            deadline: now + END_PATIENCE,
        });
    }

    /// Notes that a child has ended, if it is one of ours.
    pub fn note_ended(&mut self, pid: Pid, ended: Ended) {
        let of_pid = |running: &&mut Running| running.session.pid == pid && running.session.ended.is_none();
        if let Some(running) = self.running.iter_mut().find(of_pid) {
            running.session.ended = Some(ended);
            running.ended_at = Some(Instant::now());
            // What it left in the background must not hold its output open.
            running.session.kill();
        }
    }

    /// What the poll loop waits for.
    pub fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut interests = vec![];
        if self.waiting.len() < WAITING_MAX && self.accept_again_at.is_none() {
            interests.push((sys::borrow_fd(&self.listener), PollFlags::IN));
        }
        interests.extend(
            self.waiting
                .iter()
                .map(|waiting| (waiting.connection.fd(), PollFlags::IN)),
        );
        interests.extend(
            self.running
                .iter()
                .flat_map(|running| running.session.interests()),
        );
        interests.extend(
            self.ending
                .iter()
                .map(|ending| (ending.connection.fd(), ending.connection.interest(true))),
        );
        interests
    }

    /// When something has to be done without an event.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|waiting| waiting.deadline);
        let ending = self.ending.iter().map(|ending| ending.deadline);
        let emptying = (!self.emptying.is_empty()).then(|| Instant::now() + LOOK_AGAIN);
        waiting
            .chain(ending)
            .chain(emptying)
            .chain(self.accept_again_at)
            .chain(self.running.iter().map(Running::next_deadline))
            .min()
    }
}

impl Running {
    /// Whether there is nothing more to wait for.
    fn is_over(&self, now: Instant) -> bool {
        self.session.ended.is_some()
            && (self.session.outputs.is_empty() || self.ended_at.is_none_or(|at| now >= at + DRAIN_PATIENCE))
    }

    fn enforce_limits(&mut self, now: Instant) {
        if self.session.connection.is_none() && self.gone_since.is_none() {
            self.gone_since = Some(now);
            self.session.signal_group("HUP");
        }
        if self.gone_since.is_some_and(|since| now >= since + TERM_AFTER) && !self.termed {
            self.termed = true;
            self.session.signal_group("TERM");
        }
        if now >= self.kill_time() && !self.killed {
            self.killed = true;
            self.session.kill();
        }
    }

    fn kill_time(&self) -> Instant {
        let oldest = self.session.started + Duration::from_secs(EXEC_SESSION_SECONDS_MAX);
        self.gone_since
            .map_or(oldest, |since| oldest.min(since + KILL_AFTER))
    }

    fn next_deadline(&self) -> Instant {
        match (self.ended_at, self.gone_since) {
            (Some(ended), _) => ended + DRAIN_PATIENCE,
            (None, Some(since)) if !self.termed => since + TERM_AFTER,
            (None, Some(_) | None) if !self.killed => self.kill_time(),
            (None, Some(_) | None) => Instant::now() + KILL_AFTER,
        }
    }
}

impl Ending {
    /// Whether it is still to be kept.
    fn advance(&mut self, now: Instant) -> bool {
        self.connection.flush();
        let mut buffer = [0; 4096];
        // One piece a turn: a peer that never stops must not hold the loop.
        let _ = self.connection.read(&mut buffer);
        self.connection.is_open() && now < self.deadline
    }
}
