//! One connection: handshake, requests, and an end in any case.
//!
//! ```text
//! accepted ──handshake──> waiting ──first byte──> head ──request──> busy ──answer──> waiting …
//!          10 s           10 s at first,          10 s             its own          ──idle──> closed
//!                         then 150 s                               limits
//! ```

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::limits::{HEADER_TIMEOUT, IDLE_TIMEOUT};
use crate::authority::{PeerCertificate, PeerError};

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// The certificate that the handshake proved, if there was one.
    pub certificate: Option<Result<PeerCertificate, PeerError>>,
}

impl Peer {
    /// Of a connection after its handshake.
    pub fn of(stream: &TlsStream<TcpStream>, address: SocketAddr) -> Self {
        let (_, tls) = stream.get_ref();
        let first = tls.peer_certificates().and_then(|chain| chain.first());
        Self {
            address,
            certificate: first.map(|der| PeerCertificate::parse(der)),
        }
    }

    /// The certificate, if it is a host's and valid at this moment.
    pub fn valid_certificate(&self, now: Timestamp) -> Option<&PeerCertificate> {
        let certificate = self.certificate.as_ref()?.as_ref().ok()?;
        certificate.is_valid_at(now).then_some(certificate)
    }
}

/// What a connection does at the moment.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// It is open, and nothing was asked yet.
    Fresh(Instant),
    /// Some of a request came, not all of its head.
    Head(Instant),
    /// Requests are being answered: this many.
    Busy(u32),
    /// Nothing is asked since then.
    Waiting(Instant),
}

/// Watches that a connection does not hold on to the server by doing nothing, or little by little.
#[derive(Debug)]
pub struct Activity {
    phase: Mutex<Phase>,
    changed: Notify,
    /// HTTP/2 speaks between requests too: only what stands still is seen.
    heads_are_seen: bool,
}

impl Activity {
    /// Of a connection that was opened just now.
    pub fn new(heads_are_seen: bool) -> Arc<Self> {
        Arc::new(Self {
            phase: Mutex::new(Phase::Fresh(Instant::now())),
            changed: Notify::new(),
            heads_are_seen,
        })
    }

    fn change(&self, next: impl FnOnce(Phase) -> Phase) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        *phase = next(*phase);
        drop(phase);
        self.changed.notify_one();
    }

    fn read_some(&self) {
        if !self.heads_are_seen {
            return;
        }
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if let Phase::Waiting(_) = *phase {
            *phase = Phase::Head(Instant::now());
            drop(phase);
            self.changed.notify_one();
        }
    }

    /// A request's head is here; its answer is on the way until what is returned is dropped.
    pub fn begin(self: &Arc<Self>) -> Answering {
        self.change(|phase| match phase {
            Phase::Busy(requests) => Phase::Busy(requests.saturating_add(1)),
            Phase::Fresh(_) | Phase::Head(_) | Phase::Waiting(_) => Phase::Busy(1),
        });
        Answering(Arc::clone(self))
    }

    fn deadline(&self) -> Option<Instant> {
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, allowed): (Instant, Duration) = match phase {
            Phase::Fresh(since) | Phase::Head(since) => (since, HEADER_TIMEOUT),
            Phase::Waiting(since) => (since, IDLE_TIMEOUT),
            Phase::Busy(_) => return None,
        };
        since.checked_add(allowed)
    }

    /// Returns when the connection stood still for too long.
    pub async fn stalled(&self) {
        loop {
            let changed = self.changed.notified();
            match self.deadline() {
                None => changed.await,
                Some(deadline) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(deadline) => {
                            if self.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                                return;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.change(|phase| match phase {
            Phase::Busy(requests) if requests > 1 => Phase::Busy(requests - 1),
            Phase::Busy(_) | Phase::Fresh(_) | Phase::Head(_) | Phase::Waiting(_) => {
                Phase::Waiting(Instant::now())
            }
        });
    }
}

/// A stream whose reads are noticed.
pub struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    /// Watches a stream.
    pub fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.read_some();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
