//! One update from one mirror: the TUF client workflow (specification 1.0.16, section 5.3 to 5.6), by tough.
//!
//! tough works on a scratch copy of what is trusted and knows the system clock only. Here its copy is thrown away
//! afterwards, expiry is judged by the time that was passed in, and what came out is returned as a new state that
//! the caller commits as a whole.

mod keyring;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plfm_release::{Sha256Digest, VerifiedKeyring};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;
use tough::schema::key::Key;
use tough::schema::{RoleType, Root, Signed, Timestamp as TimestampRole};
use tough::{ExpirationEnforcement, Limits, Repository, RepositoryLoader};
use url::Url;

use super::downloads::Downloads;
use super::limits::{
    ROOT_BYTES_MAX, ROOTS_PER_UPDATE_MAX, SNAPSHOT_BYTES_MAX, TARGETS_BYTES_MAX, TARGETS_MAX,
    TIMESTAMP_BYTES_MAX,
};
use super::metadata::{MetadataTransport, Record, Role};
use super::source::Source;
use super::state::{KeptKeyring, TrustedState};
use super::tough_error::explain;
use super::view::{TrustedTarget, trusted_targets};
use super::{MetadataFault, Mirror, clock};
use crate::layout::METADATA_DIR;

pub(super) use keyring::verify_keyring;

/// The base of the names that tough makes; the transport looks at their last part only.
const BASE: &str = "tuf://repository/";

/// What an update needs.
pub(crate) struct Update<'a> {
    pub(crate) source: &'a Source,
    pub(crate) downloads: &'a Arc<Downloads>,
    pub(crate) mirror: &'a Mirror,
    pub(crate) scratch: &'a Path,
    pub(crate) state: &'a TrustedState,
    /// The host's clock.
    pub(crate) now: Timestamp,
    /// The time that expiry is judged by; not before `now`.
    pub(crate) judged_at: Timestamp,
    /// How long all of it may take.
    pub(crate) deadline: Duration,
}

/// What a complete update found.
pub(crate) struct Found {
    pub(crate) state: TrustedState,
    pub(crate) targets: BTreeMap<String, TrustedTarget>,
    pub(crate) keyring: Option<VerifiedKeyring>,
    pub(crate) expires_at: Timestamp,
    pub(crate) version: u64,
}

/// What became of an update that failed: the fault, and how far trust moved nevertheless.
pub(crate) struct Failed {
    pub(crate) fault: MetadataFault,
    /// Verified before the fault and not expired. TUF wants each file kept as soon as it is verified: a mirror must
    /// not be able to undo the knowledge of a new root by failing afterwards.
    pub(crate) progress: Option<TrustedState>,
}

impl Update<'_> {
    pub(crate) async fn run(&self) -> Result<Found, Failed> {
        let transport = MetadataTransport {
            source: self.source.clone(),
            mirror: self.mirror.clone(),
            known: Arc::new(self.known()),
            record: Arc::default(),
        };
        let outcome = timeout(self.deadline, self.run_with(&transport)).await;
        let outcome = outcome.unwrap_or(Err(MetadataFault::Deadline(self.deadline)));
        outcome.map_err(|fault| Failed {
            progress: self.progress(&transport.record()),
            fault,
        })
    }

    async fn run_with(&self, transport: &MetadataTransport) -> Result<Found, MetadataFault> {
        self.prepare_scratch()
            .map_err(|error| MetadataFault::WorkingCopy(error.to_string()))?;
        let base = Url::parse(BASE).map_err(|error| MetadataFault::WorkingCopy(error.to_string()))?;
        let loaded = RepositoryLoader::new(&self.state.root, base.clone(), base)
            .transport(transport.clone())
            .limits(LIMITS)
            .datastore(self.scratch)
            // Expiry is judged below, by the time that was passed in.
            .expiration_enforcement(ExpirationEnforcement::Unsafe)
            .load()
            .await;
        let repository = match loaded {
            Ok(repository) => repository,
            Err(error) => {
                let recorded = transport.record().fault.take();
                let fault = recorded.unwrap_or_else(|| explain(&error));
                return Err(self.name_root_gap(transport, fault).await);
            }
        };
        self.check_fresh(&repository, transport.record().date)?;
        let targets = check_targets(&repository)?;
        let keyring = self.fetch_keyring(&repository, &targets).await?;
        let record = transport.record();
        let with_root = self.with_root(&record);
        let kept = keyring.as_ref().map(|(signed, keyring)| KeptKeyring {
            version: keyring.version(),
            signed: signed.clone(),
            root: with_root.root.clone(),
        });
        let state = TrustedState {
            committed_at: Some(self.judged_at),
            timestamp: record.text(Role::Timestamp),
            snapshot: record.text(Role::Snapshot),
            targets: record.text(Role::Targets),
            keyring: kept,
            ..with_root
        };
        Ok(Found {
            state,
            targets,
            keyring: keyring.map(|(_, keyring)| keyring),
            expires_at: expiries(&repository)
                .into_iter()
                .map(|(_, _, at)| at)
                .min()
                .unwrap_or(self.now),
            version: repository.timestamp().signed.version.get(),
        })
    }

    /// tough's working copy: what was trusted last.
    fn prepare_scratch(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(self.scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(self.scratch)?,
        }
        let known = [
            ("timestamp.json", &self.state.timestamp),
            ("snapshot.json", &self.state.snapshot),
            ("targets.json", &self.state.targets),
        ];
        for (name, text) in known {
            if let Some(text) = text {
                fs::write(self.scratch.join(name), text)?;
            }
        }
        Ok(())
    }

    fn known(&self) -> BTreeMap<Sha256Digest, Vec<u8>> {
        [&self.state.snapshot, &self.state.targets]
            .into_iter()
            .flatten()
            .map(|text| (Sha256Digest::of(text.as_bytes()), text.clone().into_bytes()))
            .collect()
    }

    /// The state with the last root that passed through and that the scratch copy confirms.
    fn with_root(&self, record: &Record) -> TrustedState {
        let confirmed: Option<Signed<Root>> = read_json(&self.scratch.join("root.json"));
        let version = confirmed.map(|root| root.signed.version);
        let text = version.and_then(|version| record.files.get(&format!("{version}.root.json")));
        let root = text.and_then(|text| String::from_utf8(text.clone()).ok());
        TrustedState {
            root: root.unwrap_or_else(|| self.state.root.clone()),
            ..self.state.clone()
        }
    }

    /// How far trust moved in an update that failed.
    fn progress(&self, record: &Record) -> Option<TrustedState> {
        let mut state = self.with_root(record);
        if signing_keys(&state.root) != signing_keys(&self.state.root) {
            // TUF 5.3.11: after a rotation old versions are no floor any more; recovery from a fast-forward attack.
            state.timestamp = None;
            state.snapshot = None;
        }
        let confirmed = |role| record.text(role).filter(|text| self.is_confirmed(role, text));
        if let Some(timestamp) = confirmed(Role::Timestamp) {
            state.timestamp = Some(timestamp);
            // Only what a timestamp that was taken announces.
            state.snapshot = confirmed(Role::Snapshot).or(state.snapshot);
        }
        (state != *self.state).then_some(state)
    }

    /// Whether tough verified this file and took it, and it has not expired.
    fn is_confirmed(&self, role: Role, text: &str) -> bool {
        let copy = self.scratch.join(format!("{role}.json"));
        let (Some(taken), Ok(came)) = (read_json::<Value>(&copy), serde_json::from_str::<Value>(text)) else {
            return false;
        };
        let expires = came.pointer("/signed/expires").and_then(Value::as_str);
        let fresh = expires
            .and_then(|at| at.parse::<Timestamp>().ok())
            .is_some_and(|at| at > self.judged_at);
        fresh && taken == came
    }

    /// A signature that does not fit may be that of a key that a root introduced which this mirror does not have.
    async fn name_root_gap(&self, transport: &MetadataTransport, fault: MetadataFault) -> MetadataFault {
        let missing = transport.record().root_missing;
        let (MetadataFault::BadSignature { .. }, Some(missing)) = (&fault, missing) else {
            return fault;
        };
        let offered = missing.saturating_add(1);
        let path = format!("{METADATA_DIR}/{offered}.root.json");
        match self.source.read(self.mirror, &path, ROOT_BYTES_MAX).await {
            Ok((Some(_), _)) => MetadataFault::RootGap {
                trusted: missing.saturating_sub(1),
                offered,
            },
            _ => fault,
        }
    }

    fn check_fresh(
        &self,
        repository: &Repository,
        server_says: Option<Timestamp>,
    ) -> Result<(), MetadataFault> {
        for (role, version, expired_at) in expiries(repository) {
            if expired_at > self.judged_at {
                continue;
            }
            let (role, now) = (role.to_string(), self.judged_at);
            if let Some(server_says) = server_says.filter(|_| clock::is_suspect(now, expired_at, server_says))
            {
                return Err(MetadataFault::ClockSuspect {
                    role,
                    expired_at,
                    now,
                    server_says,
                });
            }
            let trusted: Option<Signed<TimestampRole>> = self
                .state
                .timestamp
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok());
            let nothing_newer = trusted
                .is_some_and(|trusted| trusted.signed.version >= repository.timestamp().signed.version);
            return Err(if nothing_newer {
                MetadataFault::Frozen {
                    role,
                    version,
                    expired_at,
                    now,
                }
            } else {
                MetadataFault::Expired {
                    role,
                    expired_at,
                    now,
                }
            });
        }
        Ok(())
    }
}

const LIMITS: Limits = Limits {
    max_root_size: ROOT_BYTES_MAX,
    max_targets_size: TARGETS_BYTES_MAX,
    max_timestamp_size: TIMESTAMP_BYTES_MAX,
    max_snapshot_size: SNAPSHOT_BYTES_MAX,
    max_root_updates: ROOTS_PER_UPDATE_MAX,
};

fn check_targets(repository: &Repository) -> Result<BTreeMap<String, TrustedTarget>, MetadataFault> {
    let targets = &repository.targets().signed;
    if targets.targets.len() > TARGETS_MAX {
        return Err(MetadataFault::TooManyTargets {
            found: targets.targets.len(),
            targets_max: TARGETS_MAX,
        });
    }
    Ok(trusted_targets(targets))
}

/// Role, version and expiry of the four, in the order in which a publisher has to renew them.
fn expiries(repository: &Repository) -> [(Role, u64, Timestamp); 4] {
    [
        (
            Role::Root,
            version(&repository.root().signed),
            expiry(&repository.root().signed),
        ),
        (
            Role::Timestamp,
            version(&repository.timestamp().signed),
            expiry(&repository.timestamp().signed),
        ),
        (
            Role::Snapshot,
            version(&repository.snapshot().signed),
            expiry(&repository.snapshot().signed),
        ),
        (
            Role::Targets,
            version(&repository.targets().signed),
            expiry(&repository.targets().signed),
        ),
    ]
}

fn version(role: &impl tough::schema::Role) -> u64 {
    role.version().get()
}

/// When a role expires. tough has a time type of another version; what does not fit ours has expired.
fn expiry(role: &impl tough::schema::Role) -> Timestamp {
    Timestamp::from_nanosecond(role.expires().as_nanosecond()).unwrap_or(Timestamp::MIN)
}

/// The keys of timestamp and snapshot.
fn signing_keys(root: &str) -> Option<[Vec<Key>; 2]> {
    let root: Signed<Root> = serde_json::from_str(root).ok()?;
    Some([RoleType::Timestamp, RoleType::Snapshot].map(|role| root.signed.keys(role).cloned().collect()))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
