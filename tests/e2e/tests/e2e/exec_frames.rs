//! The exec service's wire, frame by frame, with the test as the agent.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::facts;
use crate::machine::{Guest, Machine, config};

facts![
    frames_are_as_the_contract_has_them,
    a_terminal_is_resized,
    signals_reach_the_session,
    a_disconnected_session_gets_hup_then_term_then_kill,
    what_is_no_request_is_refused_and_the_service_goes_on,
    a_disabled_service_does_not_listen,
];

const EXEC_PORT: u32 = 5162;
pub const STDIN: u8 = 0x01;
const STDOUT: u8 = 0x02;
const STDERR: u8 = 0x03;
const CONTROL: u8 = 0x10;
const EXIT: u8 = 0x11;

/// A session, spoken by hand.
pub struct Session(UnixStream);

impl Session {
    pub fn dial(guest: &Guest) -> Self {
        let stream = guest.dial(EXEC_PORT);
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(stream)
    }

    pub fn start(guest: &Guest, tty: bool, script: &str) -> Self {
        let mut session = Self::dial(guest);
        session.control(
            &json!({"type": "start", "argv": ["/bin/sh", "-c", script], "tty": tty, "rows": 24, "cols": 80}),
        );
        session
    }

    /// A session without a terminal, where the way to the guest is free.
    pub fn try_start(guest: &Guest, script: &str) -> Option<Self> {
        let stream = guest.try_dial(EXEC_PORT).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut session = Self(stream);
        session.control(&json!({"type": "start", "argv": ["/bin/sh", "-c", script]}));
        Some(session)
    }

    pub fn send(&mut self, kind: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len() + 1).unwrap().to_be_bytes();
        self.0
            .write_all(&[&length[..], &[kind], payload].concat())
            .unwrap();
    }

    pub fn control(&mut self, message: &Value) {
        self.send(CONTROL, message.to_string().as_bytes());
    }

    fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let length = u32::from_be_bytes(length);
        assert!((1..=65_536).contains(&length), "{length}");
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut frame).unwrap();
        (frame[0], frame[1..].to_vec())
    }

    /// Reads until standard output has `text`.
    pub fn read_until(&mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            let (kind, payload) = self.read_frame();
            assert_eq!(
                kind,
                STDOUT,
                "after {seen:?}: {}",
                String::from_utf8_lossy(&payload)
            );
            seen.push_str(&String::from_utf8_lossy(&payload));
        }
    }

    /// Reads to the exit frame: what came on standard output and standard error, and the exit.
    pub fn finish(mut self) -> (String, String, Value) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            match self.read_frame() {
                (STDOUT, payload) => out.extend(payload),
                (STDERR, payload) => err.extend(payload),
                (EXIT, payload) => {
                    let text = |bytes| String::from_utf8(bytes).unwrap();
                    return (text(out), text(err), serde_json::from_slice(&payload).unwrap());
                }
                (kind, payload) => panic!("a frame of type {kind:#x}: {payload:?}"),
            }
        }
    }
}

pub fn idle_config() -> Value {
    let mut config = config();
    config["workload"]["argv"] = json!(["/bin/sh", "-c", "sleep 600"]);
    config["exec"] = json!({"enabled": true, "vsock_port": EXEC_PORT});
    config
}

/// Boots an idle guest and works on it. Panics of `work` become the test's.
pub fn with_guest(work: impl Fn(&Guest) + Send + 'static) {
    let story = Machine::new().boot_and(&idle_config(), work);
    assert_eq!(story.states(), ["config_applied", "ready", "exited"]);
}

fn frames_are_as_the_contract_has_them() {
    with_guest(|guest| {
        let mut session = Session::start(guest, false, "cat; echo e >&2; exit 3");
        session.send(STDIN, b"one ");
        session.send(STDIN, b"two");
        session.control(&json!({"type": "close_stdin"}));
        let (out, err, exit) = session.finish();
        assert_eq!((out.as_str(), err.as_str()), ("one two", "e\n"));
        assert_eq!(exit, json!({"exit_code": 3}));
        // Much output comes in frames of at most 64 KiB (each is checked as it is read).
        let (out, _, _) =
            Session::start(guest, false, "dd if=/dev/zero bs=1000 count=1000 2>/dev/null").finish();
        assert_eq!(out.len(), 1_000_000);
        let mut log = Session::dial(guest);
        log.control(&json!({"type": "boot_log"}));
        let (out, _, exit) = log.finish();
        assert!(
            out.lines()
                .all(|line| serde_json::from_str::<Value>(line).is_ok())
        );
        assert_eq!(exit, json!({"exit_code": 0}));
    });
}

fn a_terminal_is_resized() {
    with_guest(|guest| {
        let mut session = Session::start(guest, true, "stty size; read line; stty size");
        session.read_until("24 80\r\n");
        session.control(&json!({"type": "resize", "rows": 50, "cols": 132}));
        session.send(STDIN, b"go\n");
        let (out, err, exit) = session.finish();
        assert!(out.ends_with("50 132\r\n"), "{out:?}");
        assert_eq!((err.as_str(), &exit["exit_code"]), ("", &0.into()));
    });
}

fn signals_reach_the_session() {
    with_guest(|guest| {
        for (signal, number) in [("HUP", 1), ("INT", 2), ("KILL", 9), ("TERM", 15)] {
            let mut session = Session::start(guest, false, "echo up; exec sleep 600");
            session.read_until("up\n");
            session.control(&json!({"type": "signal", "signal": signal}));
            assert_eq!(session.finish().2, json!({"signal": number}), "{signal}");
        }
    });
}

fn a_disconnected_session_gets_hup_then_term_then_kill() {
    with_guest(|guest| {
        let stubborn = "note() { echo $1 $(cut -d' ' -f1 /proc/uptime) >> /log; }; trap 'note hup' HUP; trap 'note term' TERM; \
                        echo $$ > /pid; echo up; while :; do sleep 0.1; done";
        let mut session = Session::start(guest, false, stubborn);
        session.read_until("up\n");
        drop(session);
        let watch = "while [ -d /proc/$(cat /pid) ]; do sleep 0.1; done; cat /log; echo gone $(cut -d' ' -f1 /proc/uptime)";
        let (out, _, _) = Session::start(guest, false, watch).finish();
        let events: Vec<(&str, f64)> = out
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, at)| (name, at.parse().unwrap()))
            .collect();
        let names: Vec<&str> = events.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["hup", "term", "gone"], "{out}");
        // The script notes a signal up to a tenth of a second late, more on a busy machine.
        let after_hup = |index: usize| events[index].1 - events[0].1;
        assert!(after_hup(1) > 4.0, "TERM came too early: {out}");
        assert!(after_hup(2) > 28.0, "KILL came too early: {out}");
    });
}

fn what_is_no_request_is_refused_and_the_service_goes_on() {
    with_guest(|guest| {
        let refused = |session: Session| {
            let (_, _, exit) = session.finish();
            assert_eq!(exit["error"], "exec_bad_request", "{exit}");
        };
        for first in [
            json!({"type": "resize", "rows": 1, "cols": 1}),
            json!({"type": "dance"}),
            json!([]),
        ] {
            let mut session = Session::dial(guest);
            session.control(&first);
            refused(session);
        }
        let mut stdin_first = Session::dial(guest);
        stdin_first.send(STDIN, b"x");
        refused(stdin_first);
        // Lengths 0 and 64 KiB + 1, and a type that there is not.
        for bytes in [
            &[0, 0, 0, 0, CONTROL][..],
            &[0, 1, 0, 1, CONTROL],
            &[0, 0, 0, 1, 0x7f],
        ] {
            let mut session = Session::dial(guest);
            session.0.write_all(bytes).unwrap();
            refused(session);
        }
        let mut program = Session::dial(guest);
        program.control(&json!({"type": "start", "argv": ["no-such-program"]}));
        assert_eq!(program.finish().2["error"], "exec_start_failed");
        // A session that breaks the protocol later is ended as one whose peer is gone.
        let mut later = Session::start(guest, false, "echo $$ > /pid; echo up; exec sleep 600");
        later.read_until("up\n");
        later.0.write_all(&[0xff; 8]).unwrap();
        let gone = "while [ -d /proc/$(cat /pid) ]; do sleep 0.1; done; echo gone";
        assert_eq!(Session::start(guest, false, gone).finish().0, "gone\n");
    });
}

fn a_disabled_service_does_not_listen() {
    let mut config = idle_config();
    config["exec"]["enabled"] = json!(false);
    Machine::new().boot_and(&config, |guest| {
        let answer = guest.try_dial(EXEC_PORT).map(drop);
        assert_eq!(answer, Err(String::new()));
    });
}
