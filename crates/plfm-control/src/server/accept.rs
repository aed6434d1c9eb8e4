//! Accepting connections, and letting them end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::connection::{Activity, Watched};
use super::leftover::Leftover;
use super::limits::{
    HANDSHAKE_TIMEOUT, HEADER_BYTES_MAX, HEADERS_MAX, IDLE_TIMEOUT, SHUTDOWN_GRACE, STREAMS_MAX,
};
use super::{App, Peer, api, request};
use crate::metrics::Metrics;

/// Pause after a connection could not be accepted: file descriptors come back when others end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection that ends may take to write what it still has.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// The server on its port.
pub struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    app: App,
    connections_max: usize,
}

/// A server that listens.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
}

#[derive(Clone)]
struct Serving {
    router: Router,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
}

impl Server {
    /// Listens.
    pub async fn bind(
        address: SocketAddr,
        tls: ServerConfig,
        app: App,
        connections_max: usize,
    ) -> io::Result<(Self, Listening)> {
        let listener = TcpListener::bind(address).await?;
        let listening = Listening {
            address: listener.local_addr()?,
        };
        let server = Self {
            listener,
            tls: TlsAcceptor::from(Arc::new(tls)),
            app,
            connections_max,
        };
        Ok((server, listening))
    }

    /// Serves until `shutdown`; then lets the requests end that are under way, for a while.
    pub async fn serve(self, metrics: Arc<Metrics>, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.connections_max));
        let connections = TaskTracker::new();
        let serving = Serving {
            router: api::router(self.app.clone()),
            metrics,
            shutdown: shutdown.clone(),
        };
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &places) => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, address, place)) => {
                    let (tls, serving) = (self.tls.clone(), serving.clone());
                    connections.spawn(connection(stream, address, tls, serving, place));
                }
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        self.app.control.end_waits();
        connections.close();
        if tokio::time::timeout(SHUTDOWN_GRACE, connections.wait())
            .await
            .is_err()
        {
            warn!(
                connections = connections.len(),
                "connections that did not end in time are dropped"
            );
        }
    }
}

/// The next connection, when there is a place for it. Those that come meanwhile wait in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
    let place = Arc::clone(places).acquire_owned().await.ok();
    let (stream, address) = listener.accept().await?;
    Ok((stream, address, place))
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: TlsAcceptor,
    serving: Serving,
    _place: Option<OwnedSemaphorePermit>,
) {
    let open = serving.metrics.connections().clone();
    open.inc();
    // An answer is one small write: waiting for more would only delay it.
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
    tokio::select! {
        shaken = handshake => match shaken {
            Ok(Ok(stream)) => requests(stream, address, &serving).await,
            Ok(Err(error)) => debug!(%address, "no TLS connection: {error}"),
            Err(_) => debug!(%address, "no TLS connection: too slow"),
        },
        () = serving.shutdown.cancelled() => {}
    }
    open.dec();
}

async fn requests(stream: TlsStream<TcpStream>, address: SocketAddr, serving: &Serving) {
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let peer = Arc::new(Peer::of(&stream, address));
    let activity = Activity::new(!is_h2);
    let service = {
        let activity = Arc::clone(&activity);
        let serving = serving.clone();
        service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let answering = activity.begin();
            let (router, metrics) = (serving.router.clone(), Arc::clone(&serving.metrics));
            let peer = Arc::clone(&peer);
            async move {
                let leftover = Leftover::default();
                let (head, body) = request.into_parts();
                let body = if is_h2 {
                    Body::new(body)
                } else {
                    leftover.watch(&head.headers, body)
                };
                let request: Request<Body> = Request::from_parts(head, body);
                let response = request::serve(router, metrics, peer, request).await;
                if leftover.is_some() {
                    tokio::spawn(async move {
                        leftover.drain().await;
                        drop(answering);
                    });
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper counts from the end of the last answer: `Activity` is stricter once a head has begun.
        .header_read_timeout(IDLE_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32);
    let builder = if is_h2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    let serve = builder.serve_connection(io, service);
    tokio::pin!(serve);
    tokio::select! {
        served = serve.as_mut() => {
            if let Err(error) = served {
                debug!(%address, "a connection ended: {error}");
            }
            return;
        }
        () = activity.stalled() => debug!(%address, "a connection that stood still is closed"),
        () = serving.shutdown.cancelled() => {}
    }
    serve.as_mut().graceful_shutdown();
    let grace = if serving.shutdown.is_cancelled() {
        SHUTDOWN_GRACE
    } else {
        CLOSE_GRACE
    };
    let _ = tokio::time::timeout(grace, serve).await;
}
