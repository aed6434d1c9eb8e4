//! The host's identity on disk.
//!
//! ```text
//! control/                0700
//!   key.pem               0600, made here, never sent
//!   certificate.pem       what the control plane issued for it
//!   host.json             who the host is, and when to ask for another certificate
//!   key.next.pem          0600, while another certificate is asked for: each attempt asks with the same key
//! ```
//!
//! The certificate decides: an identity is a certificate and the one of the two keys that it is for. So a crash between
//! any two writes leaves the old identity or the new one.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use plfm_api::control::{EnrolledHost, HostId};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde::{Deserialize, Serialize};
use x509_parser::pem::parse_x509_pem;

use crate::agent::read_bounded;
use crate::durable;

const KEY: &str = "key.pem";
const NEXT_KEY: &str = "key.next.pem";
const CERTIFICATE: &str = "certificate.pem";
const HOST: &str = "host.json";
/// Largest of these files, in bytes: a chain of a few certificates.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why an identity cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk refused.
    #[error("cannot use {}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file says nothing that makes sense.
    #[error("{} cannot be read: {why}; remove it to enrol this host again", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, for people. Never what is in it.
        why: String,
    },
    /// The control plane issued a certificate that is of no use here.
    #[error("the certificate that the control plane issued {0}")]
    WrongCertificate(&'static str),
    /// No key could be made.
    #[error("cannot make a key: {0}")]
    Key(String),
}

/// Who this host is, and the proof. Has no `Debug`: the key is in it.
#[derive(Clone)]
pub struct HostIdentity {
    /// Who.
    pub host: HostId,
    /// When the certificate ends.
    pub not_after: Timestamp,
    /// From when on another one is asked for.
    pub renew_after: Timestamp,
    /// Key and certificate, PEM.
    pub pem: Vec<u8>,
}

/// What is kept beside the certificate.
#[derive(Debug, Serialize, Deserialize)]
struct HostFile {
    host: HostId,
    control: String,
    renew_after: Timestamp,
}

/// A certificate's part that matters here.
struct Certificate {
    public_key: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// The directory.
#[derive(Debug, Clone)]
pub struct ControlDir(PathBuf);

impl ControlDir {
    /// The directory `path`, which is there and private.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The identity, if the host has one. Finishes what a crash interrupted. Blocking.
    pub fn load(&self) -> Result<Option<HostIdentity>, IdentityError> {
        let (Some(pem), Some(host)) = (self.read(CERTIFICATE)?, self.read(HOST)?) else {
            return Ok(None);
        };
        let certificate =
            parse_certificate(&pem).map_err(|why| self.unreadable(CERTIFICATE, why.to_owned()))?;
        let host: HostFile =
            serde_json::from_slice(&host).map_err(|error| self.unreadable(HOST, error.to_string()))?;
        let key = match self.key(KEY)? {
            Some(key) if is_for(&certificate, &key) => key,
            Some(_) | None => match self.key(NEXT_KEY)? {
                Some(next) if is_for(&certificate, &next) => {
                    self.promote()?;
                    next
                }
                Some(_) | None => {
                    return Err(self.unreadable(CERTIFICATE, "it is for a key that is not here".to_owned()));
                }
            },
        };
        Ok(Some(identity(
            host.host,
            host.renew_after,
            &certificate,
            &key,
            &pem,
        )))
    }

    /// The key that another certificate is asked for with: the same until there is one. Blocking.
    pub fn next_key(&self) -> Result<KeyPair, IdentityError> {
        if let Some(key) = self.key(NEXT_KEY)? {
            return Ok(key);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| IdentityError::Key(error.to_string()))?;
        self.write(NEXT_KEY, key.serialize_pem().as_bytes())?;
        Ok(key)
    }

    /// Takes what the control plane issued for [`ControlDir::next_key`]. Blocking.
    pub fn accept(
        &self,
        key: &KeyPair,
        control: &str,
        issued: &EnrolledHost,
    ) -> Result<HostIdentity, IdentityError> {
        let pem = issued.certificate.as_bytes();
        let certificate = parse_certificate(pem).map_err(|_| IdentityError::WrongCertificate("is none"))?;
        if !is_for(&certificate, key) {
            return Err(IdentityError::WrongCertificate("is for another key"));
        }
        let file = HostFile {
            host: issued.host.clone(),
            control: control.to_owned(),
            renew_after: issued.renew_after,
        };
        let json =
            serde_json::to_vec_pretty(&file).map_err(|error| self.unreadable(HOST, error.to_string()))?;
        self.write(HOST, &json)?;
        // From here on the host is who this says.
        self.write(CERTIFICATE, pem)?;
        self.promote()?;
        Ok(identity(file.host, file.renew_after, &certificate, key, pem))
    }

    fn promote(&self) -> Result<(), IdentityError> {
        let promote = || {
            std::fs::rename(self.0.join(NEXT_KEY), self.0.join(KEY))?;
            std::fs::File::open(&self.0)?.sync_all()
        };
        promote().map_err(|source| self.disk(KEY, source))
    }

    fn key(&self, name: &str) -> Result<Option<KeyPair>, IdentityError> {
        let Some(pem) = self.read(name)? else {
            return Ok(None);
        };
        // The error's text is not shown: it might quote the key.
        let key = std::str::from_utf8(&pem)
            .ok()
            .and_then(|pem| KeyPair::from_pem(pem).ok());
        key.map(Some)
            .ok_or_else(|| self.unreadable(name, "it is no private key".to_owned()))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, IdentityError> {
        match read_bounded(&self.0.join(name), FILE_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.disk(name, source)),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), IdentityError> {
        durable::replace_private(&self.0, name, content).map_err(|source| self.disk(name, source))
    }

    fn disk(&self, name: &str, source: std::io::Error) -> IdentityError {
        IdentityError::Disk {
            path: self.0.join(name),
            source,
        }
    }

    fn unreadable(&self, name: &str, why: String) -> IdentityError {
        IdentityError::Unreadable {
            path: self.0.join(name),
            why,
        }
    }
}

/// A signing request for `key`, PEM. The control plane decides what is in the certificate.
pub fn signing_request(key: &KeyPair, host_name: &str) -> Result<String, IdentityError> {
    let failed = |error: rcgen::Error| IdentityError::Key(error.to_string());
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, host_name);
    let request = params.serialize_request(key).map_err(failed)?;
    request.pem().map_err(failed)
}

fn identity(
    host: HostId,
    renew_after: Timestamp,
    certificate: &Certificate,
    key: &KeyPair,
    pem: &[u8],
) -> HostIdentity {
    let mut both = key.serialize_pem().into_bytes();
    both.push(b'\n');
    both.extend_from_slice(pem);
    HostIdentity {
        host,
        not_after: certificate.not_after,
        // What is said of another certificate is no reason to let this one end.
        renew_after: renew_after.min(two_thirds(certificate)),
        pem: both,
    }
}

fn two_thirds(certificate: &Certificate) -> Timestamp {
    let life = certificate.not_after.duration_since(certificate.not_before);
    certificate
        .not_before
        .saturating_add(SignedDuration::from_secs(life.as_secs() / 3 * 2))
        .unwrap_or(certificate.not_after)
}

fn is_for(certificate: &Certificate, key: &KeyPair) -> bool {
    certificate.public_key == key.subject_public_key_info()
}

/// The first certificate of `pem`, which is the host's own.
fn parse_certificate(pem: &[u8]) -> Result<Certificate, &'static str> {
    let (_, pem) = parse_x509_pem(pem).map_err(|_| "it is not PEM")?;
    let certificate = pem.parse_x509().map_err(|_| "it is no certificate")?;
    let time = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|_| "its validity is beyond all times")
    };
    Ok(Certificate {
        public_key: certificate.public_key().raw.to_vec(),
        not_before: time(certificate.validity().not_before)?,
        not_after: time(certificate.validity().not_after)?,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const HOST: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn issue(key: &KeyPair) -> EnrolledHost {
        let params = CertificateParams::new(Vec::<String>::new()).unwrap();
        // Who signs does not matter here.
        let certificate = params.self_signed(key).unwrap().pem();
        EnrolledHost {
            host: HOST.parse().unwrap(),
            certificate,
            not_after: Timestamp::MAX,
            renew_after: "2030-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    fn dir() -> (tempfile::TempDir, ControlDir) {
        let dir = tempfile::tempdir().unwrap();
        let control = ControlDir::new(dir.path().to_owned());
        (dir, control)
    }

    fn copy(from: &Path) -> (tempfile::TempDir, ControlDir) {
        let (dir, control) = dir();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        (dir, control)
    }

    #[test]
    fn a_repeated_attempt_asks_with_the_same_key_and_the_key_is_private() {
        let (files, dir) = dir();
        let first = dir.next_key().unwrap();
        let second = dir.next_key().unwrap();
        assert_eq!(first.subject_public_key_info(), second.subject_public_key_info());
        let mode = |name| {
            std::fs::metadata(files.path().join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode(NEXT_KEY), 0o600);
        assert!(dir.load().unwrap().is_none());
        let identity = dir.accept(&second, "https://control", &issue(&second)).unwrap();
        assert_eq!(identity.host.as_str(), HOST);
        assert_eq!((mode(KEY), files.path().join(NEXT_KEY).exists()), (0o600, false));
        assert_eq!(dir.load().unwrap().unwrap().pem, identity.pem);
        let request = signing_request(&second, "host-1").unwrap();
        assert!(request.contains("CERTIFICATE REQUEST") && !request.contains("PRIVATE"));
    }

    #[test]
    fn a_crash_at_any_write_of_a_renewal_leaves_the_old_identity_or_the_new_one() {
        let (old_files, dir) = dir();
        let key = dir.next_key().unwrap();
        dir.accept(&key, "https://control", &issue(&key)).unwrap();
        let old = dir.load().unwrap().unwrap().pem;
        // What is on disk after each write of a renewal.
        let next = dir.next_key().unwrap();
        let asked = copy(old_files.path());
        let (renewed_files, renewed) = copy(old_files.path());
        let new = renewed
            .accept(&next, "https://control", &issue(&next))
            .unwrap()
            .pem;
        let told = copy(asked.0.path());
        std::fs::copy(
            renewed_files.path().join(super::HOST),
            told.0.path().join(super::HOST),
        )
        .unwrap();
        let certified = copy(told.0.path());
        std::fs::copy(
            renewed_files.path().join(CERTIFICATE),
            certified.0.path().join(CERTIFICATE),
        )
        .unwrap();
        assert_ne!(old, new);
        assert_eq!(asked.1.load().unwrap().unwrap().pem, old);
        assert_eq!(told.1.load().unwrap().unwrap().pem, old);
        assert_eq!(certified.1.load().unwrap().unwrap().pem, new);
        assert!(!certified.0.path().join(NEXT_KEY).exists());
        assert_eq!(renewed.load().unwrap().unwrap().pem, new);
    }

    #[test]
    fn a_certificate_for_another_key_is_not_taken() {
        let (_files, dir) = dir();
        let key = dir.next_key().unwrap();
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let refused = dir.accept(&key, "https://control", &issue(&other));
        assert!(matches!(refused, Err(IdentityError::WrongCertificate(_))));
        assert!(dir.load().unwrap().is_none());
    }

    #[test]
    fn an_identity_that_makes_no_sense_is_an_error_that_quotes_nothing() {
        let (files, dir) = dir();
        let key = dir.next_key().unwrap();
        dir.accept(&key, "https://control", &issue(&key)).unwrap();
        std::fs::write(files.path().join(KEY), "SECRET").unwrap();
        let error = dir.load().err().unwrap().to_string();
        assert!(error.contains(KEY) && !error.contains("SECRET"), "{error}");
    }
}
