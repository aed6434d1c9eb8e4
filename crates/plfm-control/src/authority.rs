//! Who says that a host is the host: the certificate authority.
//!
//! ```text
//! <dir>/ca.crt    the issuer, PEM, and what it is issued by, if anything      made by `init`, or brought by the operator
//! <dir>/ca.key    its key, PEM, 0600
//!
//! CSR --SigningRequest::parse--> SigningRequest --Authority::issue--> HostCertificate
//! ```
//!
//! Invariant: what a certificate says is the control plane's word alone. Of a signing request only the public key is taken,
//! after the request proved that it has the private one.

mod files;
mod issue;
mod peer;
mod request;
mod server_certificate;

pub use files::{AuthorityFileError, CA_CERTIFICATE_FILE, CA_KEY_FILE};
pub(crate) use files::{check_private, load_certificates, read, write_new};
pub use issue::{HOST_CERTIFICATE_LIFE, HostCertificate, IssueError};
pub use peer::{HOST_URI_PREFIX, PeerCertificate, PeerError};
pub use request::{CSR_BYTES_MAX, RequestError, SigningRequest};
pub use server_certificate::{SERVER_CERTIFICATE_LIFE, ServerCertificate};

use jiff::Timestamp;
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;

/// The issuer and its key. Has no `Debug`: the key is a secret.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The issuer's certificate first.
    chain: Vec<CertificateDer<'static>>,
    not_after: Timestamp,
}

impl Authority {
    /// The issuer's certificate: what clients are to trust, and what host certificates are verified with.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        // `files` makes no authority without its certificate.
        self.chain.first().unwrap_or(&EMPTY)
    }

    /// The issuer's certificate, and what it is issued by, PEM.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| render_pem(der)).collect()
    }

    /// When the issuer's certificate ends: no certificate of it ends later.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

static EMPTY: CertificateDer<'static> = CertificateDer::from_slice(&[]);

/// A certificate as text.
fn render_pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    /// RFC 7468: lines of 64 characters.
    const LINE: usize = 64;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// A time as certificates write it: whole seconds.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
