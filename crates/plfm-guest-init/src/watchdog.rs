//! The second thread: it sees to it that no stage and no shutdown hangs.
//!
//! A mount that never returns cannot be interrupted from its own thread. So each stage is armed with its deadline,
//! and when that passes this thread says so on the console and on the control connection, and reboots.

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vsock::VsockStream;

use crate::cgroup::Cgroup;
use crate::{log, shutdown};

/// What is said when the deadline passes.
pub struct Alarm {
    /// When.
    pub deadline: Instant,
    /// What is killed then, to let whoever waits for it go on; the VM is ended only if that takes [`AFTER_KILL`] more.
    pub kill_first: Option<Cgroup>,
    /// For the console.
    pub text: String,
    /// For the control connection: whole messages.
    pub report: Vec<u8>,
}

/// How long a kill may take to set free who waits.
const AFTER_KILL: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    alarm: Option<Alarm>,
    control: Option<VsockStream>,
}

#[derive(Clone)]
pub struct Watchdog(Arc<(Mutex<State>, Condvar)>);

impl Watchdog {
    /// Starts the thread, which calls `end` after an alarm. Without it the boot goes on unwatched; a VM that cannot
    /// make a thread fails soon enough.
    pub fn start(end: impl FnOnce() + Send + 'static) -> Self {
        let watchdog = Self(Arc::default());
        let watched = watchdog.clone();
        if let Err(error) = std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || watched.watch(end))
        {
            log::console(&format!("no watchdog: {error}"));
        }
        watchdog
    }

    /// Sets the alarm, in place of the one before.
    pub fn arm(&self, alarm: Alarm) {
        self.exchange(Some(alarm));
    }

    /// Sets an alarm or none, and gives back the one before.
    pub fn exchange(&self, alarm: Option<Alarm>) -> Option<Alarm> {
        self.change(|state| std::mem::replace(&mut state.alarm, alarm))
    }

    /// Takes the alarm away.
    pub fn disarm(&self) {
        self.exchange(None);
    }

    /// Gives the thread a connection to report on.
    pub fn report_to(&self, control: VsockStream) {
        self.change(|state| state.control = Some(control));
    }

    /// Reports nowhere any more: a connection that was given up is to be closed.
    pub fn forget_control(&self) {
        self.change(|state| state.control = None);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (state, changed) = &*self.0;
        let result = change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_one();
        result
    }

    fn watch(&self, end: impl FnOnce()) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = match &mut state.alarm {
                None => {
                    state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Some(alarm) => {
                    let left = alarm.deadline.saturating_duration_since(Instant::now());
                    match alarm.kill_first.take_if(|_| left.is_zero()) {
                        Some(cgroup) => {
                            cgroup.kill();
                            alarm.deadline = Instant::now() + AFTER_KILL;
                            AFTER_KILL
                        }
                        None => left,
                    }
                }
            };
            if left.is_zero() {
                break;
            }
            state = changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let Some(alarm) = state.alarm.take() else { return };
        if let Some(control) = &mut state.control {
            // The thread that does not come back may have it non-blocking.
            let _ = control.set_nonblocking(false);
            let _ = control.set_write_timeout(Some(Duration::from_secs(1)));
            let _ = control.write_all(&alarm.report);
            shutdown::wait_for_close(control, Duration::from_secs(1));
        }
        log::console(&alarm.text);
        end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn alarm(text: &str, after: Duration) -> Alarm {
        Alarm {
            deadline: Instant::now() + after,
            kill_first: None,
            text: text.to_owned(),
            report: Vec::new(),
        }
    }

    #[test]
    fn an_alarm_that_is_not_taken_away_ends_the_vm() {
        let (ended, end) = mpsc::channel();
        let watchdog = Watchdog::start(move || ended.send(Instant::now()).unwrap());
        let armed = Instant::now();
        watchdog.arm(alarm("test", Duration::from_millis(20)));
        let at = end.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(
            at.duration_since(armed) >= Duration::from_millis(20),
            "it came too early"
        );
    }

    #[test]
    fn only_the_last_alarm_counts() {
        let (ended, end) = mpsc::channel();
        let watchdog = Watchdog::start(move || ended.send(Instant::now()).unwrap());
        watchdog.arm(alarm("taken away", Duration::from_millis(500)));
        watchdog.disarm();
        watchdog.arm(alarm("replaced", Duration::from_secs(3_600)));
        let armed = Instant::now();
        watchdog.arm(alarm("last", Duration::from_millis(600)));
        let at = end.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(
            at.duration_since(armed) >= Duration::from_millis(600),
            "an alarm that was taken away went off"
        );
    }
}
