//! A host's connection, kept open as an agent keeps it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// What all connections of a loader have in common: one configuration, one signing key.
pub struct Dialer {
    config: ClientConfig,
    key: Arc<dyn SigningKey>,
    from: Ipv4Addr,
}

impl Dialer {
    /// Connects from an address of loopback, trusts an authority, signs with a key.
    pub fn new(
        ca: CertificateDer<'static>,
        key: rustls::pki_types::PrivateKeyDer<'static>,
        from: Ipv4Addr,
    ) -> anyhow::Result<Self> {
        let provider = plfm_control::tls::provider();
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let key = provider.key_provider.load_private_key(key)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Nobody comes back: a fleet connects once, and a handshake each is what is measured.
        config.resumption = Resumption::disabled();
        Ok(Self { config, key, from })
    }

    /// Connects as the host whose certificate it is.
    pub async fn connect(
        &self,
        server: SocketAddr,
        chain: Vec<CertificateDer<'static>>,
    ) -> anyhow::Result<Connection> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket
            .bind((self.from, 0).into())
            .context("no port is free to connect from")?;
        let stream = socket.connect(server).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let mut config = self.config.clone();
        config.client_auth_cert_resolver = Arc::new(OneCertificate(Arc::new(CertifiedKey::new(
            chain,
            Arc::clone(&self.key),
        ))));
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
        Ok(Connection { sender })
    }
}

#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl ResolvesClientCert for OneCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
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
