//! After `ready`: one poll loop over signals, the control connection, the workload's streams and exec sessions.
//! It ends when the workload has ended.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use plfm_guest_protocol::{Config, ExecExit, Exit, GuestEvent, Reason, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::boot::{Boot, Running};
use crate::exec::ExecService;
use crate::process::{Ended, Reaped, reap};
use crate::session::Session;
use crate::{clock, log, shutdown};

/// How long the workload's last output may take to be read by the host.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// How many children are reaped before the loop looks at the rest: orphans that end without end must not hold it.
const REAPED_A_TURN_MAX: usize = 256;
/// How many forwarded signals are logged: a program may send PID 1 any number.
const SIGNALS_LOGGED_MAX: u32 = 100;

struct Supervisor {
    boot: Boot,
    config: Config,
    workload: Session,
    exec: Option<ExecService>,
    /// When a stop that was asked for turns into SIGKILL.
    kill_at: Option<Instant>,
    stopping: bool,
    signals_logged: u32,
}

/// Runs the instance to its end and reboots.
pub fn run(boot: Boot, running: Running, signals: Option<SignalFd>) {
    let Running {
        config,
        workload,
        exec,
    } = running;
    let mut supervisor = Supervisor {
        boot,
        config,
        workload,
        exec,
        kill_at: None,
        stopping: false,
        signals_logged: 0,
    };
    let ended = supervisor.supervise(signals.as_ref());
    supervisor.finish(ended, signals.as_ref());
}

impl Supervisor {
    fn supervise(&mut self, signals: Option<&SignalFd>) -> Ended {
        loop {
            self.take_signals(signals);
            let more = self.reap_some();
            if let Some(ended) = self.workload.ended {
                return ended;
            }
            self.take_requests();
            let now = Instant::now();
            if self.kill_at.is_some_and(|at| now >= at) {
                self.kill_at = None;
                self.boot.log.add("stop_killed", "the grace period is over");
                // A program in a system call that never ends does not die of it.
                shutdown::guard(&self.boot.watchdog, Vec::new());
                self.workload.kill();
            }
            self.workload.pump();
            if let Some(exec) = &mut self.exec {
                exec.advance(now, &self.config.workload, self.boot.log.text());
            }
            self.wait(signals, more);
        }
    }

    /// Reaps what has ended, but not for ever; whether there may be more.
    fn reap_some(&mut self) -> bool {
        for _ in 0..REAPED_A_TURN_MAX {
            let Reaped::Child(pid, ended) = reap() else {
                return false;
            };
            if pid == self.workload.pid {
                self.workload.ended = Some(ended);
            } else if let Some(exec) = &mut self.exec {
                exec.note_ended(pid, ended);
            }
        }
        true
    }

    fn wait(&self, signals: Option<&SignalFd>, not_at_all: bool) {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(16);
        fds.extend(signals.map(|signals| PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)));
        if let Some(control) = &self.boot.control
            && control.connection.is_open()
        {
            fds.push(PollFd::from_borrowed_fd(
                control.connection.fd(),
                control.connection.interest(true),
            ));
        }
        let exec = self.exec.as_ref().map(ExecService::interests).unwrap_or_default();
        for (fd, flags) in self.workload.interests().chain(exec) {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let deadlines = self
            .kill_at
            .into_iter()
            .chain(self.exec.as_ref().and_then(ExecService::next_deadline));
        let left = deadlines
            .min()
            .map(|at| at.saturating_duration_since(Instant::now()));
        // Without a descriptor for signals, look twice a second.
        let left = match (not_at_all, signals) {
            (true, _) => Some(Duration::ZERO),
            (false, None) => Some(Duration::from_millis(500)),
            (false, Some(_)) => left,
        };
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let _ = poll(&mut fds, timeout.as_ref());
    }

    fn take_signals(&mut self, signals: Option<&SignalFd>) {
        let Some(signals) = signals else { return };
        while let Ok(Some(info)) = signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            // SIGCHLD only wakes the loop, which reaps anyway. Nothing else is in the mask.
            if let Ok(signal @ (Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP)) = Signal::try_from(number)
            {
                if self.signals_logged < SIGNALS_LOGGED_MAX {
                    self.signals_logged += 1;
                    self.boot.log.add("signal_forwarded", signal.as_str());
                }
                self.workload.signal(signal.as_str());
            }
        }
    }

    fn take_requests(&mut self) {
        let Some(control) = &mut self.boot.control else {
            return;
        };
        control.connection.flush();
        control.read();
        loop {
            let Some(control) = &mut self.boot.control else {
                return;
            };
            match control.next_event() {
                Ok(None) => return,
                Ok(Some(GuestEvent::Stop { grace_seconds })) => self.stop(grace_seconds),
                Ok(Some(GuestEvent::Signal { signal })) => {
                    self.boot.log.add("signal_requested", &signal);
                    self.workload.signal(&signal);
                }
                Ok(Some(GuestEvent::Configure { .. } | GuestEvent::Rejected { .. })) => {}
                Err(error) => {
                    // A host that breaks the protocol is not listened to any more. The workload goes on.
                    self.boot.log.add("control_refused", &error.to_string());
                    log::console(&format!("the control connection is given up: {error}"));
                    self.boot.control = None;
                    self.boot.watchdog.forget_control();
                    return;
                }
            }
        }
    }

    fn stop(&mut self, grace_seconds: Option<u32>) {
        let workload = &self.config.workload;
        let grace = grace_seconds.unwrap_or(workload.stop_grace_seconds);
        let by = Instant::now() + Duration::from_secs(u64::from(grace));
        if self.stopping {
            // A later stop can only hurry.
            self.kill_at = self.kill_at.map(|at| at.min(by));
            return;
        }
        self.stopping = true;
        self.boot.log.add(
            "stopping",
            &format!("{}, then SIGKILL after {grace} s", workload.stop_signal),
        );
        self.kill_at = Some(by);
        self.workload.signal(&workload.stop_signal);
    }

    /// The workload has ended: say how, first of all, because everything after it can hang; then end the rest, pass on its
    /// last output, and shut down.
    fn finish(mut self, ended: Ended, signals: Option<&SignalFd>) {
        let duration_ms = u64::try_from(self.workload.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let oom_killed = self
            .workload
            .cgroup
            .as_ref()
            .is_some_and(|cgroup| cgroup.was_oom_killed());
        let failed = ended.exit_code != Some(0) || ended.signal.is_some();
        let reason = (failed && !self.stopping).then_some(Reason::WorkloadCrashed);
        let Ended { exit_code, signal } = ended;
        let exit = Exit {
            exit_code,
            signal,
            oom_killed,
            duration_ms,
            reason,
        };
        shutdown::guard(&self.boot.watchdog, Vec::new());
        let how = match (exit_code, signal) {
            (Some(code), _) => format!("exit_code={code}"),
            (None, Some(signal)) => format!("signal={signal}"),
            (None, None) => "status unknown".to_owned(),
        };
        let oom = if oom_killed { " oom_killed" } else { "" };
        let why = reason
            .map(|reason| format!(" reason={reason}"))
            .unwrap_or_default();
        let text = format!("workload exited: {how}{oom} duration_ms={duration_ms}{why}");
        self.boot.log.add("exited", &text);
        log::console(&text);
        self.boot.report(Status::Exited {
            timestamp: clock::timestamp(),
            exit,
        });
        self.workload.kill();
        shutdown::kill_everything(signals);
        self.drain(&exit);
        shutdown::run(self.boot);
    }

    /// Everything that could write is dead, so the streams end; the host may still have to make room.
    fn drain(&mut self, exit: &Exit) {
        let deadline = Instant::now() + DRAIN_PATIENCE;
        loop {
            self.workload.pump();
            let left = deadline.saturating_duration_since(Instant::now());
            if self.workload.is_drained() || left.is_zero() {
                break;
            }
            let interests = self.workload.interests();
            let mut fds: Vec<PollFd<'_>> = interests
                .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
                .collect();
            let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        }
        if let Some(connection) = &mut self.workload.connection {
            let Exit {
                exit_code, signal, ..
            } = *exit;
            let last = ExecExit {
                exit_code,
                signal,
                ..ExecExit::default()
            };
            connection.send(&last.to_frame());
            connection.finish(deadline.saturating_duration_since(Instant::now()));
        }
    }
}
