//! Databases, events and heartbeats to test with.

use jiff::{SignedDuration, Timestamp};
use plfm_api::control::{Actor, Advertisement, Generation, HostId, HostRelease, HostStatus, OutcomeCount};
use plfm_api::{BootOutcome, ReleaseState};
use plfm_control::store::{Answer, Beat, NewEvent, Store};
use plfm_release::ReleaseId;
use sqlx::ConnectOptions as _;
use ulid::Ulid;

use crate::support::postgres::Postgres;

/// A database that nobody else uses.
pub struct Database {
    pub url: String,
    directory: Option<tempfile::TempDir>,
}

impl Database {
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.db");
        Self {
            url: format!("sqlite:{}", path.display()),
            directory: Some(directory),
        }
    }

    pub async fn postgres() -> Self {
        Self {
            url: Postgres::shared().database().await,
            directory: None,
        }
    }

    pub fn is_sqlite(&self) -> bool {
        self.directory.is_some()
    }

    pub fn directory(&self) -> &std::path::Path {
        self.directory.as_ref().expect("a SQLite database").path()
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    /// Runs a statement past the store. What the database says, if it refuses.
    pub async fn sql(&self, text: &str) -> Result<(), String> {
        let text = sqlx::AssertSqlSafe(text.to_owned());
        let done = if self.is_sqlite() {
            let options: sqlx::sqlite::SqliteConnectOptions = self.url.parse().unwrap();
            let mut connection = options.connect().await.unwrap();
            sqlx::raw_sql(text).execute(&mut connection).await.map(drop)
        } else {
            let options: sqlx::postgres::PgConnectOptions = self.url.parse().unwrap();
            let mut connection = options.connect().await.unwrap();
            sqlx::raw_sql(text).execute(&mut connection).await.map(drop)
        };
        done.map_err(|error| error.to_string())
    }
}

/// So many seconds after some moment.
pub fn at(seconds: i64) -> Timestamp {
    let begin: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
    begin + SignedDuration::from_secs(seconds)
}

pub fn event(aggregate: &str, kind: &str) -> NewEvent {
    NewEvent {
        aggregate: aggregate.to_owned(),
        at: at(0),
        actor: Actor {
            kind: "operator".to_owned(),
            id: "01J00000000000000000000000".to_owned(),
            name: "somebody".to_owned(),
            address: Some("192.0.2.7".to_owned()),
            request_id: None,
        },
        kind: kind.to_owned(),
        detail: serde_json::json!({ "kind": kind }),
    }
}

pub fn answer(key: u8, body: &str) -> Answer {
    Answer {
        key_sha256: [key; 32],
        principal: "somebody".to_owned(),
        body_sha256: [7; 32],
        status: 200,
        body: body.as_bytes().to_vec(),
        at: at(1),
    }
}

pub fn host(number: u32) -> HostId {
    Ulid::from_parts(1_700_000_000_000, number.into())
        .to_string()
        .parse()
        .unwrap()
}

pub fn stream(number: u64) -> Ulid {
    Ulid::from_parts(1_700_000_000_000 + number, 1)
}

pub fn release(letter: char) -> ReleaseId {
    format!("6.1.50-20260101{letter}+guestinit-1.0.0-20260101{letter}")
        .parse()
        .unwrap()
}

/// A heartbeat without news.
pub fn plain(host_number: u32, sequence: u64) -> Beat {
    Beat {
        host: host(host_number),
        stream: stream(1),
        sequence,
        agent_version: semver::Version::new(1, 2, 3),
        generation: Generation(4),
        seen_at: at(0),
        status: None,
        outcomes: Vec::new(),
        wants: Vec::new(),
    }
}

/// A heartbeat with so many boots that became ready.
pub fn booted(host_number: u32, sequence: u64, count: u32) -> Beat {
    Beat {
        outcomes: vec![OutcomeCount {
            release: release('a'),
            window: at(0),
            outcome: BootOutcome::Ready,
            count,
            ready_ms_total: u64::from(count) * 100,
            ready_ms_max: 100,
            ready_ms_buckets: Vec::new(),
        }],
        ..plain(host_number, sequence)
    }
}

/// A heartbeat with a status.
pub fn with_status(host_number: u32, sequence: u64, releases: &[(ReleaseId, ReleaseState, u32)]) -> Beat {
    Beat {
        status: Some(status(releases)),
        ..plain(host_number, sequence)
    }
}

pub fn status(releases: &[(ReleaseId, ReleaseState, u32)]) -> HostStatus {
    HostStatus {
        advertisement: Advertisement {
            kernel_versions: releases
                .iter()
                .map(|(release, _, _)| release.kernel.clone())
                .collect(),
            guest_init_protocols: vec![2, 1],
            current_default: None,
        },
        arch: plfm_release::Architecture::X86_64,
        vmm: "qemu".to_owned(),
        releases: releases
            .iter()
            .map(|(release, state, instances)| HostRelease {
                release: release.clone(),
                state: *state,
                instances: *instances,
            })
            .collect(),
        problems: Vec::new(),
    }
}

/// All boots of the first release that became ready, and their time.
pub async fn ready(store: &Store) -> (u64, u64) {
    let totals = store.boot_totals().await.unwrap();
    let total = totals
        .iter()
        .find(|total| total.release == release('a') && total.outcome == "ready");
    total.map_or((0, 0), |total| (total.count, total.ready_ms_total))
}

/// The same, summed up from what is kept by host and minute.
pub async fn ready_by_host(store: &Store) -> u64 {
    let hosts = store.host_boots(&release('a'), at(-100_000)).await.unwrap();
    hosts.iter().filter_map(|boots| boots.outcomes.get("ready")).sum()
}
