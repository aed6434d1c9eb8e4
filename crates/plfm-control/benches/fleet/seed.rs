//! A control plane with a fleet: what `init` and as many enrolments would have left, written at once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use plfm_api::control::{Actor, HostId};
use plfm_control::authority::{Authority, CA_CERTIFICATE_FILE, CA_KEY_FILE, SigningRequest};
use plfm_control::fleet::{Fact, FoundRelease};
use plfm_control::store::{APPEND_MAX, NewEvent, Store};
use plfm_release::{Architecture, Compatibility, Protocol, ReleaseId, Sha256Digest};

use crate::shape::Shape;

/// Where a certificate ends in PEM.
const END: &str = "-----END CERTIFICATE-----\n";

/// The fleet's side of what was seeded.
pub struct Fleet {
    pub hosts: usize,
    /// The hosts' certificates, PEM, a file for each loader; with the number of its first host.
    pub parts: Vec<(usize, PathBuf)>,
    /// One key for all of them: only the certificates tell them apart, and making keys is not what is measured.
    pub key: PathBuf,
    pub releases: [ReleaseId; 2],
    /// The first admin's token.
    pub token: String,
    pub ca: PathBuf,
}

/// Where the control plane keeps its keys.
pub fn data_dir(dir: &Path) -> PathBuf {
    dir.join("control")
}

pub async fn seed(dir: &Path, database: &str, shape: &Shape) -> anyhow::Result<Fleet> {
    let data = data_dir(dir);
    let token = init(&data, database)?;
    let ca = data.join(CA_CERTIFICATE_FILE);
    let issuing = Issuing {
        authority: Authority::open(&ca, &data.join(CA_KEY_FILE))?,
        request: signing_request(&dir.join("hosts.key"))?,
        now: Timestamp::now(),
    };
    let store = Store::open(database).await?;
    let releases = [release(1)?, release(2)?];
    append(&store, &before_hosts(&releases, issuing.now)?, issuing.now).await?;
    let mut parts = Vec::with_capacity(shape.loaders);
    for (first, count) in shape.parts() {
        let certificates = dir.join(format!("hosts-{first}.pem"));
        let enrolled = issuing.hosts(first, count, &certificates)?;
        append(&store, &enrolled, issuing.now).await?;
        parts.push((first, certificates));
    }
    store.close().await;
    Ok(Fleet {
        hosts: shape.hosts,
        parts,
        key: dir.join("hosts.key"),
        releases,
        token,
        ca,
    })
}

/// A key that is written to a file, and the request to certify it.
fn signing_request(file: &Path) -> anyhow::Result<SigningRequest> {
    let key = rcgen::KeyPair::generate()?;
    std::fs::write(file, key.serialize_pem())?;
    let request = rcgen::CertificateParams::default()
        .serialize_request(&key)?
        .pem()?;
    Ok(SigningRequest::parse(&request)?)
}

/// What the log has before any host enrols.
fn before_hosts(releases: &[ReleaseId; 2], now: Timestamp) -> anyhow::Result<Vec<Fact>> {
    let mut facts = vec![Fact::EnrollmentTokenCreated {
        id: "seed".to_owned(),
        host_name: None,
        secret_sha256: Sha256Digest::of(b"nobody has it"),
        created_by: "seed".to_owned(),
        expires_at: now,
    }];
    for release in releases {
        facts.push(Fact::ReleaseFound {
            found: found(release.clone())?,
            generation: None,
        });
    }
    Ok(facts)
}

/// What hosts' certificates are issued with.
struct Issuing {
    authority: Authority,
    request: SigningRequest,
    now: Timestamp,
}

impl Issuing {
    /// Issues a certificate for each of so many hosts, into a file. What the log is to have of it.
    fn hosts(&self, first: usize, count: usize, file: &Path) -> anyhow::Result<Vec<Fact>> {
        let mut facts = Vec::with_capacity(count);
        let mut pem = String::new();
        for number in first..first + count {
            let id: HostId = ulid::Ulid::generate().to_string().parse()?;
            let issued = self.authority.issue(&id, &self.request, self.now)?;
            // The issuer's comes after it, and is the same for all.
            let leaf = issued.chain_pem.split_inclusive(END).next();
            pem.push_str(leaf.context("the certificate is no PEM")?);
            pem.push('\n');
            facts.push(Fact::HostEnrolled {
                host: id,
                name: format!("host-{number:06}"),
                agent_version: semver::Version::new(1, 0, 0),
                arch: Architecture::X86_64,
                public_key_sha256: self.request.public_key_sha256(),
                not_after: issued.not_after,
                enrollment_token: "seed".to_owned(),
            });
        }
        std::fs::write(file, pem)?;
        Ok(facts)
    }
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
