//! The second thread: it sees to it that no stage and no shutdown hangs.
//!
//! A mount that never returns cannot be interrupted from its own thread. So each stage is armed with its deadline,
//! and when that passes this thread says so on the console and on the control connection, and reboots.

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vsock::VsockStream;

use crate::{log, shutdown};

/// What is said when the deadline passes.
pub struct Alarm {
    /// When.
    pub deadline: Instant,
    /// For the console.
    pub text: String,
    /// For the control connection: whole messages.
    pub report: Vec<u8>,
}

#[derive(Default)]
struct State {
    alarm: Option<Alarm>,
    control: Option<VsockStream>,
}

#[derive(Clone)]
pub struct Watchdog(Arc<(Mutex<State>, Condvar)>);

impl Watchdog {
    /// Starts the thread. Without it the boot goes on unwatched; a VM that cannot make a thread fails soon enough.
    pub fn start() -> Self {
        let watchdog = Self(Arc::default());
        let watched = watchdog.clone();
        if let Err(error) = std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || watched.watch())
        {
            log::console(&format!("no watchdog: {error}"));
        }
        watchdog
    }

    /// Sets the alarm, in place of the one before.
    pub fn arm(&self, alarm: Alarm) {
        self.change(|state| state.alarm = Some(alarm));
    }

    /// Takes the alarm away.
    pub fn disarm(&self) {
        self.change(|state| state.alarm = None);
    }

    /// Gives the thread a connection to report on.
    pub fn report_to(&self, control: VsockStream) {
        self.change(|state| state.control = Some(control));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let (state, changed) = &*self.0;
        change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_one();
    }

    fn watch(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = match &state.alarm {
                None => {
                    state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Some(alarm) => alarm.deadline.saturating_duration_since(Instant::now()),
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
        log::console(&alarm.text);
        if let Some(control) = &mut state.control {
            let _ = control.set_write_timeout(Some(Duration::from_secs(1)));
            let _ = control.write_all(&alarm.report);
            shutdown::wait_for_close(control, Duration::from_secs(1));
        }
        shutdown::reboot();
    }
}
