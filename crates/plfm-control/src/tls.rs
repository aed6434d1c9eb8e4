//! TLS 1.3 and 1.2 on the one port, for hosts and operators.
//!
//! | client certificate | handshake | then |
//! |---|---|---|
//! | none | goes on | a bearer token, or nothing |
//! | of our authority, for clients | goes on | [`PeerCertificate`](crate::authority::PeerCertificate), judged with each request |
//! | the same, but expired | goes on | refused by each request, with a word about why |
//! | of another authority, or not for clients | ends | |
//!
//! Invariant: a certificate counts only for whoever proved to have its key in this connection's handshake.

mod identity;
mod verifier;

pub use identity::{IdentityError, ServerIdentity};
pub use verifier::HostCertificateVerifier;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::ResolvesServerCert;

/// What is spoken over TLS, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The crypto of every connection, whatever else is linked into this program.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// How connections are accepted.
pub fn server_config(
    identity: Arc<dyn ResolvesServerCert>,
    verifier: HostCertificateVerifier,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(identity);
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}
