use super::*;
use jiff::SignedDuration;
use plfm_api::control::HostId;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, SanType, SignatureAlgorithm};
use x509_parser::prelude::{FromDer as _, X509Certificate};

fn now() -> Timestamp {
    "2027-03-01T12:00:00Z".parse().unwrap()
}

fn host() -> HostId {
    "01JZZZZZZZZZZZZZZZZZZZZZZZ".parse().unwrap()
}

fn authority() -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path(), now()).unwrap();
    (dir, authority)
}

fn csr_with(algorithm: &'static SignatureAlgorithm) -> String {
    let key = KeyPair::generate_for(algorithm).unwrap();
    CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .pem()
        .unwrap()
}

#[test]
fn an_issued_certificate_names_the_host_and_nothing_that_was_asked_for() {
    let (_dir, authority) = authority();
    let key = KeyPair::generate().unwrap();
    let mut asked = CertificateParams::new(vec!["control.example".to_owned()]).unwrap();
    asked.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    asked.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let uri = format!("{HOST_URI_PREFIX}01JAAAAAAAAAAAAAAAAAAAAAAA");
    asked
        .subject_alt_names
        .push(SanType::URI(uri.try_into().unwrap()));
    let request = SigningRequest::parse(&asked.serialize_request(&key).unwrap().pem().unwrap()).unwrap();
    let issued = authority.issue(&host(), &request, now()).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(issued.chain_pem.as_bytes()).unwrap();
    let peer = PeerCertificate::parse(&pem.contents).unwrap();
    assert_eq!(peer.host, host());
    assert_eq!(peer.not_after, issued.not_after);
    assert_eq!(issued.not_after, now() + HOST_CERTIFICATE_LIFE);
    assert_eq!(issued.renew_after, now() + SignedDuration::from_hours(20 * 24));
    let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
}

#[test]
fn two_certificates_for_one_key_have_two_serial_numbers() {
    let (_dir, authority) = authority();
    let request = SigningRequest::parse(&csr_with(&rcgen::PKCS_ECDSA_P256_SHA256)).unwrap();
    let serial = || {
        let issued = authority.issue(&host(), &request, now()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.chain_pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
        certificate.raw_serial_as_string()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn keys_of_the_usual_kinds_are_accepted_and_others_are_not() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        SigningRequest::parse(&csr_with(algorithm)).unwrap();
    }
    let refused = SigningRequest::parse(&csr_with(&rcgen::PKCS_ECDSA_P521_SHA512));
    assert_eq!(refused.err().unwrap().code(), "csr_key_refused");
}

#[test]
fn a_request_that_its_key_did_not_sign_is_refused() {
    let pem = csr_with(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (_, parsed) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let mut der = parsed.contents;
    // A byte of the subject: the request stays well-formed.
    let at = der.windows(4).position(|window| window == b"self").unwrap();
    der[at] = b'S';
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    assert_eq!(
        SigningRequest::parse(&pem).err().unwrap().code(),
        "csr_not_signed"
    );
}

#[test]
fn what_is_no_request_is_refused() {
    for text in [
        "",
        "hello",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    ] {
        assert_eq!(SigningRequest::parse(text).err().unwrap().code(), "csr_malformed");
    }
    let large = "x".repeat(CSR_BYTES_MAX + 1);
    assert_eq!(
        SigningRequest::parse(&large).err().unwrap().code(),
        "csr_malformed"
    );
}

#[test]
fn the_key_is_for_the_owner_only_and_one_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, _authority) = authority();
    let key = dir.path().join(CA_KEY_FILE);
    assert_eq!(
        std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let opened = Authority::open(&dir.path().join(CA_CERTIFICATE_FILE), &key);
    assert!(matches!(opened, Err(AuthorityFileError::KeyReadable(_, 0o640))));
}

#[test]
fn an_authority_is_not_made_over_another_one() {
    let (dir, _authority) = authority();
    assert!(matches!(
        Authority::create(dir.path(), now()),
        Err(AuthorityFileError::Write(..))
    ));
}

#[test]
fn a_key_of_another_authority_is_refused() {
    let (dir, _authority) = authority();
    let (other, _other) = self::authority();
    let opened = Authority::open(
        &dir.path().join(CA_CERTIFICATE_FILE),
        &other.path().join(CA_KEY_FILE),
    );
    assert!(matches!(opened, Err(AuthorityFileError::OtherKey(..))));
}

#[test]
fn no_certificate_outlives_its_authority() {
    let (_dir, authority) = authority();
    let late = authority.not_after() - SignedDuration::from_hours(24);
    let request = SigningRequest::parse(&csr_with(&rcgen::PKCS_ED25519)).unwrap();
    assert_eq!(
        authority.issue(&host(), &request, late).unwrap().not_after,
        authority.not_after()
    );
    let over = authority.issue(&host(), &request, authority.not_after());
    assert_eq!(over.err().unwrap().code(), "authority_expired");
}

#[test]
fn the_control_planes_own_certificate_is_no_hosts() {
    let (_dir, authority) = authority();
    let names = ["control.example".to_owned(), "127.0.0.1".to_owned()];
    let made = authority.issue_server(&names, now()).unwrap();
    assert_eq!(
        PeerCertificate::parse(made.chain.first().unwrap()),
        Err(PeerError::NotAHost)
    );
}
