//! Who decides about rollouts, what it saw last, and what the webhook was told.
//!
//! One replica holds the desk at a time, so that only one of them holds all reports in memory. That a decision is taken once
//! does not rest on this: the log's head sees to it.

use std::time::Duration;

use jiff::Timestamp;

use super::backend::{Arg, Sql, stored};
use super::moment::{Micros, moment};
use super::{Store, StoreError};

/// Who has the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desk {
    /// Whoever asked.
    Ours,
    /// Another replica.
    Theirs,
}

/// What whoever decides saw last, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// When.
    pub at: Timestamp,
    /// The document.
    pub document: String,
}

const TAKE: Sql = Sql::shared(
    "UPDATE rollout_desk SET holder = $1, until = $2 WHERE one = 1 AND (holder = $1 OR until < $3)",
);
const LEAVE: Sql = Sql::shared("UPDATE rollout_desk SET until = 0 WHERE one = 1 AND holder = $1");
const KEEP_VIEW: Sql =
    Sql::shared("UPDATE rollout_desk SET seen_at = $2, view = $3 WHERE one = 1 AND holder = $1");
const VIEW: Sql = Sql::shared("SELECT seen_at, view FROM rollout_desk WHERE one = 1 AND seen_at > 0");
const CURSOR: Sql = Sql::shared("SELECT position FROM webhook_cursor WHERE one = 1");
const SET_CURSOR: Sql = Sql::shared(
    "INSERT INTO webhook_cursor (one, position) VALUES (1, $1)
     ON CONFLICT (one) DO UPDATE SET position = excluded.position
     WHERE webhook_cursor.position < excluded.position",
);

impl Store {
    /// Takes the desk, or keeps it, for a time, unless another has it.
    pub async fn take_desk(
        &self,
        holder: &str,
        held_for: Duration,
        now: Timestamp,
    ) -> Result<Desk, StoreError> {
        let until = now.checked_add(held_for).unwrap_or(Timestamp::MAX);
        let args = [
            Arg::Text(holder),
            Arg::Int(until.micros()),
            Arg::Int(now.micros()),
        ];
        Ok(match self.backend.execute(TAKE, &args).await? {
            0 => Desk::Theirs,
            _ => Desk::Ours,
        })
    }

    /// Leaves the desk to whoever comes.
    pub async fn leave_desk(&self, holder: &str) -> Result<(), StoreError> {
        self.backend.execute(LEAVE, &[Arg::Text(holder)]).await.map(drop)
    }

    /// Lays down what was seen, for the other replicas. Whoever lost the desk meanwhile lays nothing down.
    pub async fn keep_view(&self, holder: &str, view: &View) -> Result<(), StoreError> {
        let args = [
            Arg::Text(holder),
            Arg::Int(view.at.micros()),
            Arg::Text(&view.document),
        ];
        self.backend.execute(KEEP_VIEW, &args).await.map(drop)
    }

    /// What was seen last, if anything was.
    pub async fn view(&self) -> Result<Option<View>, StoreError> {
        let rows = self.backend.rows(VIEW, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(View {
            at: moment(row.int(0)?)?,
            document: row.text(1)?,
        }))
    }

    /// The last event that the webhook was told of; none before it was ever set up.
    pub async fn webhook_cursor(&self) -> Result<Option<u64>, StoreError> {
        let rows = self.backend.rows(CURSOR, &[]).await?;
        rows.first().map(|row| row.number(0)).transpose()
    }

    /// Moves it forward.
    pub async fn set_webhook_cursor(&self, position: u64) -> Result<(), StoreError> {
        self.backend
            .execute(SET_CURSOR, &[Arg::Int(stored(position))])
            .await
            .map(drop)
    }
}
