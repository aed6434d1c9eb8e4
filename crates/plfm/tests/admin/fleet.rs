//! A real control plane on loopback with its database in a directory of its own, releases, and hosts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plfm_api::control::{Actor, Fleet as Glance, Role};
use plfm_control::authority::Authority;
use plfm_control::control::{Background, Control, MadeToken, Pace, Parts, SecretKey, TokenKind};
use plfm_control::fleet::{Command, FoundRelease};
use plfm_control::metrics::Metrics;
use plfm_control::server::{App, Server};
use plfm_control::store::Store;
use plfm_control::tls::{HostCertificateVerifier, ServerIdentity, server_config};
use plfm_release::{Architecture, Compatibility, Protocol, ReleaseId, Sha256Digest};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::operator::Operator;

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A control plane that serves until it is dropped.
pub struct Fleet {
    runtime: Runtime,
    control: Control,
    background: Option<(Background, tokio::task::JoinHandle<()>)>,
    shutdown: CancellationToken,
    url: String,
    ca: String,
    token: String,
    _dir: tempfile::TempDir,
}

impl Fleet {
    /// A control plane with an administrator's token, and nothing else.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let now = Timestamp::now();
        let authority = Arc::new(Authority::create(dir.path(), now).unwrap());
        let names = vec!["127.0.0.1".to_owned()];
        let identity = Arc::new(ServerIdentity::issued(Arc::clone(&authority), names, now).unwrap());
        let verifier = HostCertificateVerifier::new(authority.certificate()).unwrap();
        let tls = server_config(identity, verifier).unwrap();
        let metrics = Arc::new(Metrics::default());
        let shutdown = CancellationToken::new();
        let (control, background, url) = runtime.block_on(async {
            let store = Store::open(&format!("sqlite:{}/control.db", dir.path().display()))
                .await
                .unwrap();
            let parts = Parts {
                store,
                authority: Arc::clone(&authority),
                secret_key: SecretKey::create(dir.path()).unwrap(),
                pace: Pace::default(),
                polls_max: 100,
                metrics: Arc::clone(&metrics),
                clock: plfm_control::clock::Clock::default(),
                webhook: None,
            };
            let (control, background) = Control::start(parts).await.unwrap();
            let address = "127.0.0.1:0".parse().unwrap();
            let app = App::new(control.clone());
            let (server, listening) = Server::bind(address, tls, app, 100).await.unwrap();
            let serving = tokio::spawn(server.serve(metrics, shutdown.clone()));
            (
                control,
                (background, serving),
                format!("https://{}", listening.address),
            )
        });
        let mut fleet = Self {
            runtime,
            control,
            background: Some(background),
            shutdown,
            url,
            ca: authority.chain_pem(),
            token: String::new(),
            _dir: dir,
        };
        fleet.token = fleet.make_token("root", Role::Admin);
        fleet
    }

    /// A token as `init` makes the first one.
    fn make_token(&self, name: &str, role: Role) -> String {
        let id = ulid::Ulid::generate().to_string();
        let made = MadeToken::random(TokenKind::Operator, &id).unwrap();
        self.execute(&Command::CreateToken {
            id,
            name: name.to_owned(),
            role,
            secret_sha256: made.secret_sha256,
            created_by: "system".to_owned(),
            valid_seconds: None,
        });
        made.text
    }

    fn execute(&self, command: &Command) {
        let actor = Actor {
            kind: "system".to_owned(),
            id: "test".to_owned(),
            name: "test".to_owned(),
            address: None,
            request_id: None,
        };
        self.runtime
            .block_on(self.control.execute(command, &actor))
            .unwrap();
    }

    /// An operator with the administrator's token.
    pub fn operator(&self) -> Operator {
        self.operator_with(&self.token)
    }

    /// An operator with a token of another role.
    pub fn operator_as(&self, role: Role) -> Operator {
        self.operator_with(&self.make_token(role.as_str(), role))
    }

    fn operator_with(&self, token: &str) -> Operator {
        let operator = Operator::new();
        operator.write("ca.pem", &self.ca);
        let add = ["context", "add", "it", "--url", &self.url, "--ca", "ca.pem"];
        operator.admin_with(&add, token).ok();
        operator
    }

    /// The registry has a release.
    pub fn publish(&self, release: &ReleaseId, protocol: u32) {
        self.execute(&Command::FindRelease(FoundRelease {
            release: release.clone(),
            arch: Architecture::X86_64,
            protocol: Protocol(protocol),
            compatibility: Compatibility {
                min_agent_version: semver::Version::new(1, 0, 0),
                supported_protocols: [Protocol(protocol)].into(),
            },
            manifest_sha256: Sha256Digest::of(release.to_string().as_bytes()),
            key_id: Sha256Digest::of(b"key").to_string().parse().unwrap(),
        }));
    }

    /// The registry has a release no more.
    pub fn withdraw(&self, release: &ReleaseId, reason: &str) {
        self.execute(&Command::WithdrawRelease {
            release: release.clone(),
            reason: reason.to_owned(),
        });
    }

    /// A host that enrolled with a token of an operator's.
    pub fn host(&self, operator: &Operator, name: &str) -> Host {
        let (token, code) = operator.json(&["hosts", "enroll-token"]);
        assert_eq!(code, 0, "{token}");
        self.enroll(token["token"].as_str().unwrap(), name)
    }

    /// A host that enrols with a token.
    pub fn enroll(&self, token: &str, name: &str) -> Host {
        self.run(Host::enroll(&self.url, &self.ca, token, name))
    }

    /// Runs what a host does.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Waits until what operators are shown is so: it is counted once a second.
    pub fn settle(&self, is_so: impl Fn(&Glance) -> bool) {
        let settled = async {
            while !is_so(&self.control.glance().await.unwrap()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let settled = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, settled).await });
        assert!(settled.is_ok(), "it did not come to that");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let Some((background, serving)) = self.background.take() else {
            return;
        };
        self.runtime.block_on(async {
            let _ = serving.await;
            background.end(&self.control).await;
        });
    }
}

/// A release of the tests, by its build.
pub fn release(build: &str) -> ReleaseId {
    format!("6.1.50-{build}+guestinit-1.0.0-{build}").parse().unwrap()
}
