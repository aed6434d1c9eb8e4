//! A real control plane on loopback, and those who talk to it.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use plfm_api::control::{Actor, CreatedEnrollmentToken, EnrolledHost, EventPage, Heartbeat};
use plfm_control::fleet::{Command, FoundRelease};
use plfm_control::settings::{Given, Settings};
use plfm_control::{Running, init, serve};
use plfm_release::{Architecture, Compatibility, Protocol, ReleaseId, Sha256Digest};
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

pub struct Plane {
    pub dir: TempDir,
    pub running: Running,
    pub admin: String,
    /// Ends it when it is dropped.
    _shutdown: DropGuard,
}

pub fn given() -> Given {
    Given {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        metrics_listen: Some("127.0.0.1:0".parse().unwrap()),
        names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        ..Given::default()
    }
}

pub async fn start() -> Plane {
    start_with(|settings| settings).await
}

pub async fn start_with(change: impl FnOnce(Settings) -> Settings) -> Plane {
    let dir = tempfile::tempdir().unwrap();
    let made = init(dir.path(), given(), Timestamp::now()).await.unwrap();
    run(dir, made.admin_token, change).await
}

/// Runs a control plane that was initialized before.
pub async fn run(dir: TempDir, admin: String, change: impl FnOnce(Settings) -> Settings) -> Plane {
    let settings = change(given().check(dir.path()).unwrap());
    let shutdown = CancellationToken::new();
    let running = serve(settings, shutdown.clone()).await.unwrap();
    Plane {
        dir,
        running,
        admin,
        _shutdown: shutdown.drop_guard(),
    }
}

impl Plane {
    pub fn ca(&self) -> Certificate {
        ca(self.dir.path())
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.running.address.port())
    }

    pub fn client(&self) -> Client {
        client(self.ca(), None)
    }

    /// A request of the first admin.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client()
            .request(method, self.url(path))
            .bearer_auth(&self.admin)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub async fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    /// A change by the first admin with a key of its own.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path)
            .header("idempotency-key", ulid::Ulid::generate().to_string())
            .json(body)
            .send()
            .await
            .unwrap()
    }

    pub async fn post_ok(&self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body).await;
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    pub async fn head(&self) -> u64 {
        self.running.control.store().head().await.unwrap()
    }

    /// The log after a position.
    pub async fn events(&self, after: u64) -> EventPage {
        let page = self
            .get_json(&format!("/v1/events?after={after}&limit=200"))
            .await;
        serde_json::from_value(page).unwrap()
    }

    /// The registry has a release.
    pub async fn find(&self, number: u32) -> ReleaseId {
        let found = found(number);
        let release = found.release.clone();
        let command = Command::FindRelease(found);
        self.running.control.execute(&command, &registry()).await.unwrap();
        release
    }

    /// A token with a role.
    pub async fn token(&self, role: &str) -> String {
        let made = self
            .post_ok("/v1/tokens", &json!({"name": role, "role": role}))
            .await;
        made["token"].as_str().unwrap().to_owned()
    }

    pub async fn enrollment_token(&self) -> CreatedEnrollmentToken {
        let made = self.post_ok("/v1/enrollment-tokens", &json!({})).await;
        serde_json::from_value(made).unwrap()
    }

    /// A host that enrolled.
    pub async fn host(&self, name: &str) -> Host {
        let token = self.enrollment_token().await.token;
        let key = rcgen::KeyPair::generate().unwrap();
        let response = self.enroll(&token, name, &csr(&key)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let enrolled: EnrolledHost = response.json().await.unwrap();
        Host::new(self, enrolled, &key)
    }

    pub async fn enroll(&self, token: &str, name: &str, csr: &str) -> Response {
        let body =
            json!({"token": token, "name": name, "csr": csr, "agent_version": "1.0.0", "arch": "x86_64"});
        self.client()
            .post(self.url("/v1/hosts/enroll"))
            .json(&body)
            .send()
            .await
            .unwrap()
    }
}

pub fn ca(dir: &Path) -> Certificate {
    Certificate::from_pem(&std::fs::read(dir.join("ca.crt")).unwrap()).unwrap()
}

pub fn client(ca: Certificate, identity: Option<Identity>) -> Client {
    let builder = Client::builder()
        .tls_certs_only([ca])
        .timeout(Duration::from_secs(90));
    match identity {
        Some(identity) => builder.identity(identity).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

pub fn identity(certificate_pem: &str, key: &rcgen::KeyPair) -> Identity {
    Identity::from_pem(format!("{certificate_pem}{}", key.serialize_pem()).as_bytes()).unwrap()
}

pub fn csr(key: &rcgen::KeyPair) -> String {
    rcgen::CertificateParams::default()
        .serialize_request(key)
        .unwrap()
        .pem()
        .unwrap()
}

/// A host with its certificate, on one connection.
pub struct Host {
    pub id: String,
    pub enrolled: EnrolledHost,
    pub client: Client,
    base: String,
}

impl Host {
    pub fn new(plane: &Plane, enrolled: EnrolledHost, key: &rcgen::KeyPair) -> Self {
        let client = client(plane.ca(), Some(identity(&enrolled.certificate, key)));
        Self::with_client(plane, enrolled, client)
    }

    pub fn with_client(plane: &Plane, enrolled: EnrolledHost, client: Client) -> Self {
        Self::at(&plane.url(""), enrolled, client)
    }

    /// A host that speaks with the control plane at a URL.
    pub fn at(url: &str, enrolled: EnrolledHost, client: Client) -> Self {
        Self {
            id: enrolled.host.to_string(),
            client,
            base: format!("{url}/v1/hosts/{}", enrolled.host),
            enrolled,
        }
    }

    pub async fn post(&self, what: &str, body: &impl serde::Serialize) -> Response {
        self.client
            .post(format!("{}/{what}", self.base))
            .json(body)
            .send()
            .await
            .unwrap()
    }

    pub async fn beat(&self, beat: &Heartbeat) -> Response {
        self.post("heartbeat", beat).await
    }

    pub async fn target(&self, after: u64, wait_seconds: u64) -> Response {
        let url = format!("{}/target?after={after}&wait_seconds={wait_seconds}", self.base);
        self.client.get(url).send().await.unwrap()
    }
}

pub fn beat(sequence: u64) -> Heartbeat {
    serde_json::from_value(json!({
        "stream": "01JAAAAAAAAAAAAAAAAAAAAAAA",
        "sequence": sequence,
        "agent_version": "1.0.0",
    }))
    .unwrap()
}

/// A host's status with releases installed, the first of which is current.
pub fn status(releases: &[&ReleaseId]) -> Value {
    let listed = releases.iter().enumerate().map(|(at, release)| {
        json!({
            "release": release.to_string(),
            "state": if at == 0 { "current" } else { "installed" },
            "instances": 3,
        })
    });
    json!({
        "kernel_versions": releases.iter().map(|release| release.kernel.to_string()).collect::<Vec<_>>(),
        "guest_init_protocols": [1],
        "arch": "x86_64",
        "vmm": "qemu",
        "releases": listed.collect::<Vec<_>>(),
    })
}

pub fn registry() -> Actor {
    Actor {
        kind: "system".to_owned(),
        id: "registry".to_owned(),
        name: "registry".to_owned(),
        address: None,
        request_id: None,
    }
}

pub fn release(number: u32) -> ReleaseId {
    format!(
        "6.1.{number}-2026112{}a+guestinit-1.0.{number}-2026112{}a",
        number % 10,
        number % 10
    )
    .parse()
    .unwrap()
}

pub fn found(number: u32) -> FoundRelease {
    FoundRelease {
        release: release(number),
        arch: Architecture::X86_64,
        protocol: Protocol(1),
        compatibility: Compatibility {
            min_agent_version: "1.0.0".parse().unwrap(),
            supported_protocols: [Protocol(1)].into(),
        },
        manifest_sha256: Sha256Digest::of(&number.to_be_bytes()),
        key_id: Sha256Digest::of(b"a key").to_string().parse().unwrap(),
    }
}

/// Asserts that an answer is a problem of that kind, and gives it.
pub async fn problem(response: Response, status: u16, code: &str) -> Value {
    let found = response.status();
    let kind = response.headers().get("content-type").cloned();
    let id = response.headers().get("x-request-id").cloned();
    let text = response.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{found}: no JSON: {text:?}"));
    assert_eq!(
        (found.as_u16(), body["code"].as_str()),
        (status, Some(code)),
        "{body}"
    );
    assert_eq!(kind.unwrap(), "application/problem+json");
    assert_eq!(body["request_id"].as_str(), id.unwrap().to_str().ok());
    assert_eq!(body["status"], status);
    body
}
