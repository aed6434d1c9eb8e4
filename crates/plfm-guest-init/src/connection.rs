//! A vsock connection that is never waited for: reads and writes return at once, what cannot be written yet is kept,
//! and what is kept is bounded by whoever fills it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vsock::{VMADDR_CID_HOST, VsockStream};

use crate::sys;

/// Above this much unwritten output, nothing more is read for a connection: the writer waits instead.
pub const PENDING_BYTES_MAX: usize = 128 * 1024;
/// How long to wait before dialling again, when nobody listens yet.
const REDIAL: Duration = Duration::from_millis(10);

pub struct Connection {
    stream: VsockStream,
    pending: Vec<u8>,
    open: bool,
}

impl Connection {
    /// Dials the host until it answers or `patience` is over.
    pub fn dial_host(port: u32, patience: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + patience;
        loop {
            match VsockStream::connect_with_cid_port(VMADDR_CID_HOST, port) {
                Ok(stream) => return Ok(Self::new(stream)),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(REDIAL),
            }
        }
    }

    pub fn new(stream: VsockStream) -> Self {
        // A stream that stays blocking would only be slower: the poll loop asks before it reads.
        let _ = stream.set_nonblocking(true);
        Self {
            stream,
            pending: Vec::new(),
            open: true,
        }
    }

    pub fn stream(&self) -> &VsockStream {
        &self.stream
    }

    /// Queues bytes and writes what can be written.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.open {
            self.pending.extend_from_slice(bytes);
            self.flush();
        }
    }

    /// Writes what can be written now.
    pub fn flush(&mut self) {
        while self.open && !self.pending.is_empty() {
            match self.stream.write(&self.pending) {
                Ok(0) => self.open = false,
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.open = false,
            }
        }
        if !self.open {
            self.pending.clear();
        }
    }

    /// Reads what has come, up to `buffer`'s length. `None`: nothing yet. An empty slice: the peer closed.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        match self.stream.read(buffer) {
            Ok(length) => {
                if length == 0 {
                    self.open = false;
                }
                buffer.get(..length)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            Err(_) => {
                self.open = false;
                Some(&[])
            }
        }
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    pub fn has_room(&self) -> bool {
        self.pending.len() < PENDING_BYTES_MAX
    }

    pub fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the peer has closed or reset the connection, without reading what it sent before.
    pub fn peer_is_gone(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.fd(), PollFlags::RDHUP)];
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1))
            && fds.iter().any(|fd| fd.revents().intersects(gone))
    }

    /// What to wait for; that the peer goes, in any case.
    pub fn interest(&self, read: bool) -> PollFlags {
        let mut flags = PollFlags::RDHUP;
        if read {
            flags |= PollFlags::IN;
        }
        if !self.pending.is_empty() {
            flags |= PollFlags::OUT;
        }
        flags
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        sys::borrow_fd(&self.stream)
    }

    /// Writes the rest and waits until the peer closes, which it does when it has the last message: only then has it
    /// all. At most `patience`. (Half a close would say the same, but not every VMM passes one on to the host.)
    pub fn finish(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut buffer = [0; 1024];
        loop {
            self.flush();
            // Whatever the peer still says is for nobody.
            let _ = self.read(&mut buffer);
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.open || left.is_zero() {
                break;
            }
            let mut fds = [PollFd::from_borrowed_fd(self.fd(), self.interest(true))];
            let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        }
        self.open = false;
        self.pending.clear();
    }
}
