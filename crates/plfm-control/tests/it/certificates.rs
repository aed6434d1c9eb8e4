//! Certificates that come from elsewhere, and certificates that are replaced while the control plane runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use plfm_api::control::EnrolledHost;
use reqwest::{Certificate, StatusCode};
use serde_json::{Value, json};

use crate::plane::{Host, beat, client, csr, identity};
use crate::program::{Program, init_with, output};
use crate::wire::{ask, certificate_of, connect, shown};

/// An organization's own authorities, made with openssl.
struct Pki(tempfile::TempDir);

const INTERMEDIATE: &str = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
                            subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
const SERVER: &str = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n\
                      subjectAltName=DNS:localhost,IP:127.0.0.1\n";

impl Pki {
    fn new() -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        pki.key("root");
        let root = [
            "req",
            "-x509",
            "-new",
            "-key",
            "root.key",
            "-days",
            "30",
            "-subj",
            "/CN=Example Root",
        ];
        pki.openssl(&[&root[..], &["-out", "root.crt"]].concat());
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn openssl(&self, args: &[&str]) -> String {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        let ended = command.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "openssl {args:?}: {said}");
        String::from_utf8(ended.stdout).unwrap()
    }

    fn key(&self, name: &str) {
        let kind = [
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ];
        self.openssl(&[&kind[..], &["-out", &format!("{name}.key")]].concat());
    }

    /// Makes a key and a certificate that the root issues.
    fn issue(&self, name: &str, extensions: &str) {
        self.key(name);
        let [key, request, certificate] = ["key", "csr", "crt"].map(|kind| format!("{name}.{kind}"));
        let subject = format!("/CN=Example {name}");
        self.openssl(&["req", "-new", "-key", &key, "-subj", &subject, "-out", &request]);
        std::fs::write(self.path("extensions"), extensions).unwrap();
        let issue = [
            "x509",
            "-req",
            "-CA",
            "root.crt",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-days",
            "30",
        ];
        let of = ["-extfile", "extensions", "-in", &request, "-out", &certificate];
        self.openssl(&[&issue[..], &of].concat());
    }

    fn root(&self) -> Certificate {
        Certificate::from_pem(&std::fs::read(self.path("root.crt")).unwrap()).unwrap()
    }
}

/// Enrols a host with a running program; its client trusts `ca`.
async fn enrol(program: &Program, admin: &str, ca: &Certificate) -> (Host, rcgen::KeyPair) {
    let operator = client(ca.clone(), None);
    let made = program
        .post(&operator, admin, "enrol", "/v1/enrollment-tokens", &json!({}))
        .await
        .unwrap();
    let made: Value = made.json().await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let body = json!({
        "token": made["token"], "name": "host-a", "csr": csr(&key), "agent_version": "1.0.0", "arch": "x86_64",
    });
    let enrolled = operator
        .post(program.url("/v1/hosts/enroll"))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(enrolled.status(), StatusCode::OK);
    let enrolled: EnrolledHost = enrolled.json().await.unwrap();
    let client = client(ca.clone(), Some(identity(&enrolled.certificate, &key)));
    (Host::at(&program.url(""), enrolled, client), key)
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_certified_by_an_operators_own_intermediate_authority() {
    let pki = Pki::new();
    pki.issue("intermediate", INTERMEDIATE);
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (pki.text("intermediate.crt"), pki.text("intermediate.key"));
    let admin = init_with(dir.path(), &["--ca-cert", &certificate, "--ca-key", &key]);
    assert!(!dir.path().join("ca.key").exists(), "it makes none of its own");
    let program = Program::start(dir.path());
    // Whoever trusts the root alone trusts the control plane, which shows what it is issued by.
    let (host, _) = enrol(&program, &admin, &pki.root()).await;
    assert_eq!(host.beat(&beat(0)).await.status(), StatusCode::OK);
    let renewed = host
        .post(
            "certificate",
            &json!({"csr": csr(&rcgen::KeyPair::generate().unwrap())}),
        )
        .await;
    assert_eq!(renewed.status(), StatusCode::OK);

    let (leaf, _) = host
        .enrolled
        .certificate
        .split_at(host.enrolled.certificate.find("-----END").unwrap() + "-----END CERTIFICATE-----\n".len());
    std::fs::write(pki.path("host.crt"), leaf).unwrap();
    let verified = pki.openssl(&[
        "verify",
        "-purpose",
        "sslclient",
        "-CAfile",
        "root.crt",
        "-untrusted",
        "intermediate.crt",
        "host.crt",
    ]);
    assert_eq!(verified.trim(), "host.crt: OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_of_the_same_root_certifies_no_hosts() {
    let pki = Pki::new();
    pki.issue("intermediate", INTERMEDIATE);
    pki.issue("other", INTERMEDIATE);
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (pki.text("intermediate.crt"), pki.text("intermediate.key"));
    let admin = init_with(dir.path(), &["--ca-cert", &certificate, "--ca-key", &key]);
    let program = Program::start(dir.path());
    let (host, _) = enrol(&program, &admin, &pki.root()).await;
    let other =
        plfm_control::authority::Authority::open(&pki.path("other.crt"), &pki.path("other.key")).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let request = plfm_control::authority::SigningRequest::parse(&csr(&key)).unwrap();
    let issued = other
        .issue(&host.id.parse().unwrap(), &request, Timestamp::now())
        .unwrap();
    let liar = client(pki.root(), Some(identity(&issued.chain_pem, &key)));
    let url = program.url(&format!("/v1/hosts/{}/heartbeat", host.id));
    assert!(liar.post(url).json(&beat(0)).send().await.is_err());
}

/// Puts another server certificate, or a part of one, in the place of the one that is used.
fn put(pki: &Pki, name: &str, kinds: &[&str]) {
    for kind in kinds {
        let next = pki.path("next");
        std::fs::copy(pki.path(&format!("{name}.{kind}")), &next).unwrap();
        std::fs::rename(next, pki.path(&format!("server.{kind}"))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_replaced_is_shown_after_sighup_and_open_connections_stay() {
    let pki = Pki::new();
    for name in ["first", "second", "third"] {
        pki.issue(name, SERVER);
    }
    put(&pki, "first", &["crt", "key"]);
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (pki.text("server.crt"), pki.text("server.key"));
    let admin = init_with(dir.path(), &["--tls-cert", &certificate, "--tls-key", &key]);
    let program = Program::start(dir.path());
    let (host, _) = enrol(&program, &admin, &pki.root()).await;
    assert_eq!(host.beat(&beat(0)).await.status(), StatusCode::OK);

    let root = pki.path("root.crt");
    let mut open = connect(program.address, &root).await;
    let first = certificate_of(&open);
    assert!(ask(&mut open, "/v1/nothing").await.starts_with("HTTP/1.1 404"));
    put(&pki, "second", &["crt", "key"]);
    program.hang_up();
    program.says("another certificate").await;
    let second = shown(program.address, &root).await;
    assert_ne!(first, second);
    assert!(
        ask(&mut open, "/v1/nothing").await.starts_with("HTTP/1.1 404"),
        "an open connection stays"
    );

    // Half of a pair is none: what was there goes on.
    put(&pki, "third", &["crt"]);
    program.hang_up();
    program.says("stays as it was").await;
    assert_eq!(shown(program.address, &root).await, second);
    put(&pki, "third", &["key"]);
    program.hang_up();
    program.says_times("another certificate", 2).await;
    assert_ne!(shown(program.address, &root).await, second);
    assert!(ask(&mut open, "/v1/nothing").await.starts_with("HTTP/1.1 404"));
}

/// An authority that ends so soon that whatever it issues has to be renewed within seconds.
fn short_authority(dir: &Path, life: SignedDuration) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "soon over");
    let at = |at: Timestamp| {
        let since = std::time::Duration::from_secs(at.as_second().try_into().unwrap());
        rcgen::date_time_ymd(1970, 1, 1) + since
    };
    params.not_before = at(Timestamp::now() - SignedDuration::from_hours(1));
    params.not_after = at(Timestamp::now() + life);
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(dir.join("short.crt"), certificate.pem()).unwrap();
    write_key(&dir.join("short.key"), &key);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_renews_its_own_certificate_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    // It is renewed after two thirds of that.
    short_authority(dir.path(), SignedDuration::from_secs(24));
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let data = dir.path().join("data");
    init_with(
        &data,
        &["--ca-cert", &at("short.crt"), "--ca-key", &at("short.key")],
    );
    let program = Program::start(&data);
    let ca = dir.path().join("short.crt");
    let mut open = connect(program.address, &ca).await;
    let first = certificate_of(&open);
    ask(&mut open, "/v1/nothing").await;
    program.says("another certificate").await;
    assert_ne!(shown(program.address, &ca).await, first);
    assert!(ask(&mut open, "/v1/nothing").await.starts_with("HTTP/1.1 404"));
}

#[test]
fn a_certificate_that_is_over_is_not_served_with() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2026, 1, 2);
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("old.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    write_key(&dir.path().join("old.key"), &key);
    let data = dir.path().join("data");
    init_with(
        &data,
        &["--tls-cert", &at("old.crt"), "--tls-key", &at("old.key")],
    );
    let ended = output(&[
        "serve",
        "--data-dir",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ]);
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("old.crt ended at 2026-01-02"), "{said}");
}

fn write_key(file: &Path, key: &rcgen::KeyPair) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}
