//! A host's connection, kept open as an agent keeps it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use plfm_api::control::HostId;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::seed::{Fleet, Host};
use crate::server::Server;
use crate::summary::Figures;

/// Handshakes under way at once.
const AT_ONCE: usize = 64;
/// Connections from one loopback address: fewer than it has ports to go out by.
const PER_ADDRESS: usize = 20_000;

pub struct Connection {
    pub host: HostId,
    pub sender: SendRequest<Full<Bytes>>,
}

/// Connects every host.
pub async fn connect(
    server: &Server,
    fleet: &Fleet,
    figures: &mut Figures,
) -> anyhow::Result<Vec<Connection>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&fleet.ca)?)?;
    let roots = Arc::new(roots);
    let started = Instant::now();
    let connections: Vec<anyhow::Result<Connection>> = stream::iter(fleet.hosts.iter().enumerate())
        .map(|(number, host)| open(server.address, number, host, fleet, roots.clone()))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let connections = connections.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    figures.connect_ms = u64::try_from(started.elapsed().as_millis())?;
    Ok(connections)
}

async fn open(
    server: SocketAddr,
    number: usize,
    host: &Host,
    fleet: &Fleet,
    roots: Arc<RootCertStore>,
) -> anyhow::Result<Connection> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    let octet = u8::try_from(1 + number / PER_ADDRESS).context("too many hosts for one machine")?;
    socket.bind((Ipv4Addr::new(127, 0, 1, octet), 0).into())?;
    let stream = socket.connect(server).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(host.chain.clone(), fleet.key.clone_key())?;
    let name = ServerName::try_from("localhost")?;
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .context("no TLS")?;
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(16 * 1024)
        .handshake(TokioIo::new(tls))
        .await?;
    // Its end is seen by the next request.
    tokio::spawn(connection);
    Ok(Connection {
        host: host.id.clone(),
        sender,
    })
}

impl Connection {
    /// A request and its whole answer.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// `POST` that must succeed.
    pub async fn post(&mut self, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
        let (status, bytes) = self.ask(Method::POST, path, body).await?;
        ensure!(
            status.is_success(),
            "{path}: {status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(bytes)
    }
}
