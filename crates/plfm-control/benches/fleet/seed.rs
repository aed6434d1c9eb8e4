//! A control plane with a fleet: what `init` and as many enrolments would have left, written at once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use plfm_api::control::{Actor, HostId};
use plfm_control::authority::{Authority, CA_CERTIFICATE_FILE, CA_KEY_FILE, SigningRequest};
use plfm_control::fleet::{Fact, FoundRelease};
use plfm_control::store::{APPEND_MAX, NewEvent, Store};
use plfm_release::{Architecture, Compatibility, Protocol, ReleaseId, Sha256Digest};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The fleet's side of what was seeded.
pub struct Fleet {
    pub hosts: Vec<Host>,
    /// One key for all of them: only the certificates tell them apart, and making keys is not what is measured.
    pub key: Arc<PrivateKeyDer<'static>>,
    pub releases: [ReleaseId; 2],
    /// The first admin's token.
    pub token: String,
    pub ca: PathBuf,
}

pub struct Host {
    pub id: HostId,
    pub chain: Vec<CertificateDer<'static>>,
}

/// Where the control plane keeps its keys.
pub fn data_dir(dir: &Path) -> PathBuf {
    dir.join("control")
}

pub async fn seed(dir: &Path, database: &str, count: usize) -> anyhow::Result<Fleet> {
    let data = data_dir(dir);
    let token = init(&data, database)?;
    let ca = data.join(CA_CERTIFICATE_FILE);
    let authority = Authority::open(&ca, &data.join(CA_KEY_FILE))?;
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::default()
        .serialize_request(&key)?
        .pem()?;
    let request = SigningRequest::parse(&request)?;
    let now = Timestamp::now();

    let store = Store::open(database).await?;
    let releases = [release(1)?, release(2)?];
    let mut facts: Vec<Fact> = Vec::with_capacity(count + 3);
    for release in &releases {
        facts.push(Fact::ReleaseFound {
            found: found(release.clone())?,
            generation: None,
        });
    }
    facts.push(Fact::EnrollmentTokenCreated {
        id: "seed".to_owned(),
        host_name: None,
        secret_sha256: Sha256Digest::of(b"nobody has it"),
        created_by: "seed".to_owned(),
        expires_at: now,
    });
    let mut hosts = Vec::with_capacity(count);
    for number in 0..count {
        let id: HostId = ulid::Ulid::generate().to_string().parse()?;
        let certificate = authority.issue(&id, &request, now)?;
        let chain =
            CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes()).collect::<Result<_, _>>()?;
        facts.push(Fact::HostEnrolled {
            host: id.clone(),
            name: format!("host-{number:06}"),
            agent_version: semver::Version::new(1, 0, 0),
            arch: Architecture::X86_64,
            public_key_sha256: request.public_key_sha256(),
            not_after: certificate.not_after,
            enrollment_token: "seed".to_owned(),
        });
        hosts.push(Host { id, chain });
    }
    append(&store, &facts, now).await?;
    store.close().await;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(Fleet {
        hosts,
        key: Arc::new(key),
        releases,
        token,
        ca,
    })
}

fn init(data: &Path, database: &str) -> anyhow::Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_plfm-control"))
        .args(["init", "--data-dir"])
        .arg(data)
        .args([
            "--database",
            database,
            "--name",
            "localhost",
            "--name",
            "127.0.0.1",
        ])
        .output()
        .context("cannot run plfm-control")?;
    ensure!(
        output.status.success(),
        "plfm-control init failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8(output.stdout)?;
    let token = printed
        .split_whitespace()
        .find(|word| word.starts_with("plfm_op_"));
    Ok(token.context("init printed no token")?.to_owned())
}

async fn append(store: &Store, facts: &[Fact], at: Timestamp) -> anyhow::Result<()> {
    let actor = Actor {
        kind: "system".to_owned(),
        id: "seed".to_owned(),
        name: "seed".to_owned(),
        address: None,
        request_id: None,
    };
    for some in facts.chunks(APPEND_MAX) {
        let events: Vec<NewEvent> = some
            .iter()
            .map(|fact| {
                let (kind, detail) = fact.to_log();
                NewEvent {
                    aggregate: fact.aggregate(),
                    at,
                    actor: actor.clone(),
                    kind,
                    detail,
                }
            })
            .collect();
        let head = store.head().await?;
        store.append(head, &events, None).await?;
    }
    Ok(())
}

fn release(number: u8) -> anyhow::Result<ReleaseId> {
    Ok(format!("6.1.{number}-2026010{number}a+guestinit-1.0.{number}-2026010{number}a").parse()?)
}

fn found(release: ReleaseId) -> anyhow::Result<FoundRelease> {
    Ok(FoundRelease {
        manifest_sha256: Sha256Digest::of(release.to_string().as_bytes()),
        release,
        arch: Architecture::X86_64,
        protocol: Protocol(1),
        compatibility: Compatibility {
            min_agent_version: semver::Version::new(1, 0, 0),
            supported_protocols: [Protocol(1)].into(),
        },
        key_id: serde_json::from_value(serde_json::json!("0".repeat(64)))?,
    })
}
