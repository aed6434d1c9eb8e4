//! A running program and its streams: the workload, or an exec session.
//!
//! Everything is non-blocking: [`Session::pump`] moves what can be moved and returns. What the program writes is
//! read only while the connection has room, so a slow host slows the program and costs no memory here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use plfm_guest_protocol::{ExecControl, FrameDecoder, FrameType, encode_frame, signal_number};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use rustix::termios::Winsize;

use crate::cgroup::Cgroup;
use crate::connection::Connection;
use crate::process::Ended;
use crate::sys;

/// How much is read from a stream at once, in bytes.
const READ_BYTES: usize = 32 * 1024;
/// How much standard input is kept for a program that does not read it, in bytes; above it the host waits.
const STDIN_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    Stdout,
    Stderr,
}

pub struct Stream {
    pub kind: OutputKind,
    pub fd: OwnedFd,
}

pub struct Session {
    pub pid: Pid,
    pub cgroup: Option<Cgroup>,
    pub started: Instant,
    pub ended: Option<Ended>,
    pub stdin: Option<OwnedFd>,
    pub outputs: Vec<Stream>,
    pub terminal: Option<OwnedFd>,
    pub connection: Option<Connection>,
    pub decoder: FrameDecoder,
    stdin_pending: Vec<u8>,
    stdin_ends: bool,
}

impl Session {
    /// A session without a process yet.
    pub fn new() -> Self {
        Self {
            pid: Pid::INIT,
            cgroup: None,
            started: Instant::now(),
            ended: None,
            stdin: None,
            outputs: Vec::new(),
            terminal: None,
            connection: None,
            decoder: FrameDecoder::default(),
            stdin_pending: Vec::new(),
            stdin_ends: false,
        }
    }

    /// Moves what can be moved between the program's streams and the connection.
    pub fn pump(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.flush();
        }
        self.read_connection();
        self.write_stdin();
        self.read_outputs();
        if self.stdin_pending.len() >= STDIN_BYTES_MAX
            && self.connection.as_ref().is_some_and(Connection::peer_is_gone)
        {
            // Not read from, so its end does not show in reading.
            self.connection = None;
        }
        if self
            .connection
            .as_ref()
            .is_some_and(|connection| !connection.is_open())
        {
            self.connection = None;
            self.stdin_ends = true;
            self.write_stdin();
        }
    }

    fn read_connection(&mut self) {
        let mut buffer = [0; READ_BYTES];
        while self.stdin_pending.len() < STDIN_BYTES_MAX {
            let Some(bytes) = self
                .connection
                .as_mut()
                .and_then(|connection| connection.read(&mut buffer))
            else {
                break;
            };
            if bytes.is_empty() {
                break;
            }
            self.decoder.push(bytes);
            self.take_frames();
        }
    }

    /// Handles the frames that have come whole. A peer that breaks the protocol loses its connection.
    pub fn take_frames(&mut self) {
        loop {
            match self.decoder.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    let control = match frame.kind {
                        FrameType::Stdin => {
                            self.stdin_pending.extend_from_slice(&frame.payload);
                            continue;
                        }
                        FrameType::Control => serde_json::from_slice::<ExecControl>(&frame.payload).ok(),
                        FrameType::Stdout | FrameType::Stderr | FrameType::Exit => None,
                    };
                    match control {
                        Some(ExecControl::Resize { rows, cols }) => self.resize(rows, cols),
                        Some(ExecControl::Signal { signal }) => self.signal_group(&signal),
                        Some(ExecControl::CloseStdin) => self.stdin_ends = true,
                        Some(ExecControl::Start(_) | ExecControl::BootLog) | None => {
                            self.connection = None;
                            return;
                        }
                    }
                }
                Err(_) => {
                    self.connection = None;
                    return;
                }
            }
        }
    }

    fn write_stdin(&mut self) {
        let Some(stdin) = &self.stdin else {
            self.stdin_pending.clear();
            return;
        };
        while !self.stdin_pending.is_empty() {
            match rustix::io::write(stdin, &self.stdin_pending) {
                Ok(written) => drop(self.stdin_pending.drain(..written)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.stdin_pending.clear();
                    self.stdin_ends = true;
                }
            }
        }
        // A terminal's input has no end but the end of the session.
        if self.stdin_ends && self.terminal.is_none() {
            self.stdin = None;
        }
    }

    fn read_outputs(&mut self) {
        let mut buffer = [0; READ_BYTES];
        let connection = &mut self.connection;
        self.outputs.retain_mut(|stream| {
            while connection.as_ref().is_none_or(Connection::has_room) {
                match rustix::io::read(&stream.fd, &mut buffer) {
                    // Zero is a pipe's end, EIO a terminal's.
                    Ok(0) | Err(Errno::IO) => return false,
                    Ok(length) => {
                        let kind = match stream.kind {
                            OutputKind::Stdout => FrameType::Stdout,
                            OutputKind::Stderr => FrameType::Stderr,
                        };
                        if let Some(connection) = connection {
                            connection.send(&encode_frame(kind, buffer.get(..length).unwrap_or_default()));
                        }
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return true,
                    Err(_) => return false,
                }
            }
            true
        });
    }

    /// What the poll loop waits for.
    pub fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let has_room = self.connection.as_ref().is_none_or(Connection::has_room);
        let outputs = self
            .outputs
            .iter()
            .filter(move |_| has_room)
            .map(|stream| (stream.fd.as_fd(), PollFlags::IN));
        let stdin = self
            .stdin
            .iter()
            .filter(|_| !self.stdin_pending.is_empty())
            .map(|fd| (fd.as_fd(), PollFlags::OUT));
        let takes_stdin = self.stdin_pending.len() < STDIN_BYTES_MAX;
        let connection = self
            .connection
            .iter()
            .map(move |connection| (connection.fd(), connection.interest(takes_stdin)));
        outputs.chain(stdin).chain(connection)
    }

    /// Sets the terminal's size, if there is one.
    pub fn resize(&self, rows: u16, cols: u16) {
        if let Some(terminal) = &self.terminal {
            let size = Winsize {
                ws_row: rows,
                ws_col: cols,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }

    /// Sends a signal to the program itself.
    pub fn signal(&self, name: &str) {
        if let Some(signal) = named_signal(name)
            && self.ended.is_none()
        {
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    /// Sends a signal to the program and what it started in its own session.
    pub fn signal_group(&self, name: &str) {
        if let Some(signal) = named_signal(name)
            && self.ended.is_none()
        {
            let _ = rustix::process::kill_process_group(self.pid, signal);
        }
    }

    /// SIGKILL to the whole tree, and to the program itself, which root in the guest can move out of its cgroup.
    pub fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        if self.ended.is_none() {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }

    /// Whether everything that the program wrote has gone to the connection.
    pub fn is_drained(&self) -> bool {
        self.outputs.is_empty() && self.connection.as_ref().is_none_or(Connection::is_flushed)
    }
}

fn named_signal(name: &str) -> Option<Signal> {
    signal_number(name).and_then(sys::signal_from_number)
}
