use plfm_release::Sha256Digest;
use rcgen::{PublicKeyData as _, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

/// Largest signing request, PEM, in bytes: one with an RSA key of 8192 bits has 3 KiB.
pub const CSR_BYTES_MAX: usize = 8192;
/// Smallest RSA key, in bits.
const RSA_BITS_MIN: usize = 2048;

/// A public key whose private half the asker has.
pub struct SigningRequest {
    pub(super) public_key: SubjectPublicKeyInfo,
}

/// Not a signing request that a certificate is issued for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Too much text.
    #[error("the signing request is larger than {CSR_BYTES_MAX} bytes")]
    TooLarge,
    /// Not PEM of the right kind.
    #[error("the signing request is no PEM with the label CERTIFICATE REQUEST")]
    NotPem,
    /// Not PKCS #10.
    #[error("the signing request is no PKCS #10 request")]
    Malformed,
    /// A kind of key that nobody needs.
    #[error(
        "the signing request's key is none of P-256, P-384, Ed25519 and RSA of at least {RSA_BITS_MIN} bits"
    )]
    KeyRefused,
    /// Somebody else's public key.
    #[error("the signing request is not signed with the key that it is for")]
    NotSigned,
}

impl RequestError {
    /// Stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge | Self::NotPem | Self::Malformed => "csr_malformed",
            Self::KeyRefused => "csr_key_refused",
            Self::NotSigned => "csr_not_signed",
        }
    }
}

impl SigningRequest {
    /// Reads a request and verifies that its sender has the private key. What else it asks for is not looked at.
    pub fn parse(pem: &str) -> Result<Self, RequestError> {
        if pem.len() > CSR_BYTES_MAX {
            return Err(RequestError::TooLarge);
        }
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| RequestError::NotPem)?;
        if pem.label != "CERTIFICATE REQUEST" && pem.label != "NEW CERTIFICATE REQUEST" {
            return Err(RequestError::NotPem);
        }
        let (rest, request) =
            X509CertificationRequest::from_der(&pem.contents).map_err(|_| RequestError::Malformed)?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed);
        }
        let asked = &request.certification_request_info.subject_pki;
        match asked.parsed() {
            Ok(PublicKey::RSA(key)) if key.key_size() >= RSA_BITS_MIN => {}
            Ok(PublicKey::EC(_) | PublicKey::Unknown(_)) => {}
            _ => return Err(RequestError::KeyRefused),
        }
        // Knows the same kinds of key, no others: P-521, Ed448 and the like end here.
        let public_key = SubjectPublicKeyInfo::from_der(asked.raw).map_err(|_| RequestError::KeyRefused)?;
        if !is_known(&public_key) {
            return Err(RequestError::KeyRefused);
        }
        request.verify_signature().map_err(|_| RequestError::NotSigned)?;
        Ok(Self { public_key })
    }

    /// SHA-256 of the public key (its `SubjectPublicKeyInfo`): who asks again with the same key is the same host.
    pub fn public_key_sha256(&self) -> Sha256Digest {
        Sha256Digest::of(&self.public_key.subject_public_key_info())
    }
}

fn is_known(key: &SubjectPublicKeyInfo) -> bool {
    let known = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_RSA_SHA384,
        &rcgen::PKCS_RSA_SHA512,
    ];
    known.iter().any(|algorithm| *key.algorithm() == **algorithm)
}
