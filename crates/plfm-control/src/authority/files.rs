use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::issue::{common_name, random_serial, set_validity};
use super::{Authority, IssueError, render_pem};

/// The issuer's certificate in the data directory.
pub const CA_CERTIFICATE_FILE: &str = "ca.crt";
/// Its key.
pub const CA_KEY_FILE: &str = "ca.key";
/// How long an own authority lasts: a fleet that outlives it needs another one, and hosts that enrol again.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The authority's files cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityFileError {
    /// It cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It cannot be written.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] std::io::Error),
    /// Others can read the key.
    #[error("{} can be read by others: its mode is {:o}, not 600", .0.display(), .1)]
    KeyReadable(PathBuf, u32),
    /// No certificate in it.
    #[error("{} has no certificate, PEM", .0.display())]
    NoCertificate(PathBuf),
    /// No key in it.
    #[error("{} has no private key of a kind that can sign, PEM", .0.display())]
    NoKey(PathBuf),
    /// A certificate for something else.
    #[error("the certificate in {} is no certificate authority's", .0.display())]
    NotAnAuthority(PathBuf),
    /// Not a pair.
    #[error("the key in {} is not that of the certificate in {}", .1.display(), .0.display())]
    OtherKey(PathBuf, PathBuf),
    /// It cannot be made.
    #[error("cannot make a certificate authority")]
    Make(#[source] IssueError),
}

impl Authority {
    /// Makes an authority of our own. Where there is a key already, nothing is written.
    pub fn create(dir: &Path, now: Timestamp) -> Result<Self, AuthorityFileError> {
        let key = KeyPair::generate().map_err(|error| AuthorityFileError::Make(IssueError::Make(error)))?;
        let certificate = own_certificate(&key, now).map_err(AuthorityFileError::Make)?;
        // The key first: a certificate without its key would be taken for the operator's own.
        write_new(&dir.join(CA_KEY_FILE), key.serialize_pem().as_bytes(), 0o600)?;
        write_new(&dir.join(CA_CERTIFICATE_FILE), certificate.as_bytes(), 0o644)?;
        Self::open(&dir.join(CA_CERTIFICATE_FILE), &dir.join(CA_KEY_FILE))
    }

    /// Opens an authority: our own, or the operator's, with whatever it is issued by after it.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, AuthorityFileError> {
        let chain = load_certificates(certificate)?;
        let signing = load_key_pair(key)?;
        let none = || AuthorityFileError::NoCertificate(certificate.to_owned());
        let first = chain.first().ok_or_else(none)?;
        let (_, parsed) = X509Certificate::from_der(first).map_err(|_| none())?;
        if !parsed.is_ca() {
            return Err(AuthorityFileError::NotAnAuthority(certificate.to_owned()));
        }
        if parsed.public_key().raw != signing.subject_public_key_info() {
            return Err(AuthorityFileError::OtherKey(
                certificate.to_owned(),
                key.to_owned(),
            ));
        }
        let end = parsed.validity().not_after.timestamp();
        let issuer = Issuer::from_ca_cert_der(first, signing).map_err(|_| none())?;
        Ok(Self {
            issuer,
            not_after: Timestamp::from_second(end).unwrap_or(Timestamp::MAX),
            chain,
        })
    }
}

fn own_certificate(key: &KeyPair, now: Timestamp) -> Result<String, IssueError> {
    let mut params = CertificateParams::default();
    let serial = random_serial()?;
    let mark: String = hex::encode(serial.to_bytes()).chars().take(8).collect();
    params.distinguished_name = common_name(&format!("plfm control plane {mark}"));
    params.serial_number = Some(serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let until = now.checked_add(AUTHORITY_LIFE).unwrap_or(now);
    set_validity(
        &mut params,
        now.checked_sub(SignedDuration::from_mins(5)).unwrap_or(now),
        until,
    );
    let certificate = params.self_signed(key).map_err(IssueError::Make)?;
    Ok(render_pem(certificate.der()))
}

/// The certificates of a PEM file, in its order.
pub(crate) fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityFileError> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(AuthorityFileError::NoCertificate(path.to_owned())),
    }
}

fn load_key_pair(path: &Path) -> Result<KeyPair, AuthorityFileError> {
    check_private(path)?;
    let text = read(path)?;
    let none = || AuthorityFileError::NoKey(path.to_owned());
    KeyPair::from_pem(std::str::from_utf8(&text).map_err(|_| none())?).map_err(|_| none())
}

/// A key that others can read is no secret.
pub(crate) fn check_private(path: &Path) -> Result<(), AuthorityFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let read = |error| AuthorityFileError::Read(path.to_owned(), error);
    let mode = std::fs::metadata(path).map_err(read)?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(AuthorityFileError::KeyReadable(path.to_owned(), mode))
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, AuthorityFileError> {
    let fault = |error| AuthorityFileError::Read(path.to_owned(), error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fault)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

/// Writes a file that is not there yet, synced.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityFileError> {
    let fault = |error| AuthorityFileError::Write(path.to_owned(), error);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(fault)?;
    file.write_all(bytes).map_err(fault)?;
    file.sync_all().map_err(fault)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(fault)
}
