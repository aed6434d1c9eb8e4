//! What the control plane keeps: the event log, answers to requests that may come again, and what hosts report.
//!
//! ```text
//! events, log_head        the log; appended by compare-and-set on the head, never changed      log.rs
//! answers                 answers by idempotency key, in the transaction of their events       answers.rs
//! hosts, host_streams     who was heard of, and which of its news are counted already          beats.rs, beats/judge.rs
//! host_status, host_platforms, host_releases, release_totals    the inventory, and its sums    beats/inventory.rs
//! boot_outcomes           boots by minute, release, host and outcome; old minutes are pruned   beats/outcomes.rs
//! boot_totals             the same by release and outcome, for ever                            beats/outcomes.rs
//! boot_reports            boots as they were reported, for the rollout under way; old ones are pruned   reports.rs
//! rollout_desk, webhook_cursor    who decides about rollouts and what it saw; what was told of it       desk.rs
//! fetch_leases            which hosts may fetch right now                                      beats/leases.rs
//! ```
//!
//! The invariant: what was acknowledged is on disk and counted once, whichever replica took it, however often it was sent.

mod answers;
mod backend;
mod beats;
mod boots;
mod desk;
mod error;
mod fleet;
mod hosts;
mod log;
mod moment;
mod reports;
mod rollout_hosts;
mod schema;

use std::path::Path;

pub use answers::Answer;
pub use beats::{Beat, LEASE_HELD_MAX, LEASE_RENEWED_FOR, STREAMS_MAX, Taken};
pub use boots::{BootTotal, HostBoots};
pub use desk::{Desk, View};
pub use error::{AppendError, StoreError};
pub use fleet::{FleetCounts, HostVersions, Lacking, ReleaseCount};
pub use hosts::{HostFilter, HostRow};
pub use log::{APPEND_MAX, NewEvent};
pub use reports::{BootReport, ReportCursor};
pub use rollout_hosts::HostGroup;

use backend::{Backend, Sql};

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
}

impl Store {
    /// Opens a database and brings it to the newest version: `sqlite:PATH`, a file that is made if it is not there, or
    /// `postgres://…`, a database that is. Several replicas may do so at once.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let backend = match url.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => {
                backend::open_sqlite(Path::new(path.strip_prefix("//").unwrap_or(path))).await?
            }
            Some(("postgres" | "postgresql", _)) => backend::open_postgres(url).await?,
            _ => return Err(StoreError::Address { why: "" }),
        };
        schema::migrate(&backend).await?;
        let store = Self { backend };
        store.check_log().await?;
        Ok(store)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.backend.rows(Sql::shared("SELECT 1"), &[]).await.map(drop)
    }

    /// Copies a SQLite database, as it is at this moment, to a new file. Writing goes on meanwhile.
    pub async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite { writer, .. } => backend::copy_sqlite(writer, to).await,
            Backend::Postgres(_) => Err(StoreError::BackupElsewhere),
        }
    }

    /// Closes the connections, when what is under way is done.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Backend::Postgres(pool) => pool.close().await,
        }
    }
}
