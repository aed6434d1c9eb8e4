//! The event log: append-only, positions from 1 without gaps.
//!
//! Whoever appends says where it believes the log to end, so that what was decided from it is decided once, whatever
//! the number of replicas.

use jiff::Timestamp;
use plfm_api::control::{Actor, Event};
use serde::Serialize;

use super::answers::{Answer, insert_answer};
use super::backend::{Arg, Change, Row, Sql, stored};
use super::moment::{Micros, moment};
use super::{AppendError, Store, StoreError};

/// Events of one append, at most: a decision makes a handful.
pub const APPEND_MAX: usize = 1000;

/// What is to be remembered as having happened.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// What it is about: `fleet`, `release/<id>`, …
    pub aggregate: String,
    /// When. Kept to the microsecond.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub kind: String,
    /// The rest of it.
    pub detail: serde_json::Value,
}

#[derive(Serialize)]
struct EventRow<'a> {
    position: u64,
    aggregate: &'a str,
    sequence: u64,
    at: i64,
    // JSON as text within JSON: as such, no database interprets it.
    actor: String,
    kind: &'a str,
    detail: String,
}

const HEAD: Sql = Sql::shared("SELECT position FROM log_head WHERE one = 1");

const EVENTS: Sql = Sql::of(
    "SELECT position, aggregate, sequence, at, actor, kind, detail FROM events
     WHERE position > $1 ORDER BY position LIMIT $2",
    "SELECT position, aggregate, sequence, at, actor::text, kind, detail::text FROM events
     WHERE position > $1 ORDER BY position LIMIT $2",
);

const EVENTS_OF: Sql = Sql::of(
    "SELECT position, aggregate, sequence, at, actor, kind, detail FROM events
     WHERE position > $1 AND aggregate = $3 ORDER BY position LIMIT $2",
    "SELECT position, aggregate, sequence, at, actor::text, kind, detail::text FROM events
     WHERE position > $1 AND aggregate = $3 ORDER BY position LIMIT $2",
);

/// Moves the head, if it is where it was expected. In PostgreSQL it waits for whoever moves it right now.
const MOVE_HEAD: Sql =
    Sql::shared("UPDATE log_head SET position = position + $1 WHERE one = 1 AND position = $2");

const LAST_SEQUENCES: Sql = Sql::of(
    "SELECT value, (SELECT COALESCE(MAX(sequence), 0) FROM events WHERE aggregate = value) FROM json_each($1)",
    "SELECT value, (SELECT COALESCE(MAX(sequence), 0) FROM events WHERE aggregate = value)
     FROM json_array_elements_text($1::json) AS wanted (value)",
);

const INSERT: Sql = Sql::of(
    "INSERT INTO events (position, aggregate, sequence, at, actor, kind, detail)
     SELECT value ->> 'position', value ->> 'aggregate', value ->> 'sequence', value ->> 'at', value ->> 'actor',
            value ->> 'kind', value ->> 'detail'
     FROM json_each($1) ORDER BY 1",
    "INSERT INTO events (position, aggregate, sequence, at, actor, kind, detail)
     SELECT position, aggregate, sequence, at, actor::json, kind, detail::json
     FROM json_to_recordset($1::json)
          AS x (position bigint, aggregate text, sequence bigint, at bigint, actor text, kind text, detail text)
     ORDER BY position",
);

impl Store {
    /// Where the log ends: the position of the last event, 0 of an empty log.
    pub async fn head(&self) -> Result<u64, StoreError> {
        let rows = self.backend.rows(HEAD, &[]).await?;
        head_of(&rows)
    }

    /// The events after a position, in order, of one aggregate or of all.
    pub async fn events(
        &self,
        after: u64,
        limit: usize,
        aggregate: Option<&str>,
    ) -> Result<Vec<Event>, StoreError> {
        let after = Arg::Int(stored(after));
        let limit = Arg::Int(stored(limit as u64));
        let rows = match aggregate {
            None => self.backend.rows(EVENTS, &[after, limit]).await?,
            Some(aggregate) => {
                self.backend
                    .rows(EVENTS_OF, &[after, limit, Arg::Text(aggregate)])
                    .await?
            }
        };
        rows.iter().map(event_of).collect()
    }

    /// Appends events, and the answer that they are told with, if the log still ends at `expected_head`.
    ///
    /// All of it happens or nothing. After [`StoreError::Unavailable`] it may have happened: read the log again, or send
    /// the same answer again, which is then [`AppendError::Answered`].
    pub async fn append(
        &self,
        expected_head: u64,
        events: &[NewEvent],
        answer: Option<&Answer>,
    ) -> Result<Vec<Event>, AppendError> {
        if events.len() > APPEND_MAX {
            let count = events.len();
            return Err(StoreError::TooManyEvents {
                count,
                max: APPEND_MAX,
            }
            .into());
        }
        let mut change = self.backend.begin().await?;
        // The answer first: of two tries of one request, the later one is to learn that it was answered.
        if let Some(answer) = answer {
            insert_answer(&mut change, answer).await?;
        }
        let moved = change
            .execute(
                MOVE_HEAD,
                &[
                    Arg::Int(stored(events.len() as u64)),
                    Arg::Int(stored(expected_head)),
                ],
            )
            .await?;
        if moved == 0 {
            let head = head_of(&change.rows(HEAD, &[]).await?)?;
            return Err(AppendError::Moved { head });
        }
        let appended = numbered(&mut change, expected_head, events).await?;
        if !appended.is_empty() {
            let rows = render(&appended)?;
            change.execute(INSERT, &[Arg::Text(&rows)]).await?;
        }
        change.commit().await?;
        Ok(appended)
    }

    /// The log's two ends agree. Otherwise somebody wrote into the database by hand.
    pub(super) async fn check_log(&self) -> Result<(), StoreError> {
        let rows = self
            .backend
            .rows(
                Sql::shared(
                    "SELECT position, (SELECT COALESCE(MAX(position), 0) FROM events) FROM log_head WHERE one = 1",
                ),
                &[],
            )
            .await?;
        let row = rows
            .first()
            .ok_or_else(|| StoreError::corrupt("the log has no head"))?;
        let (head, last) = (row.int(0)?, row.int(1)?);
        if head == last {
            Ok(())
        } else {
            Err(StoreError::corrupt(format!(
                "the log's head is {head} and its last event {last}"
            )))
        }
    }
}

/// The events with their positions and sequences. Nobody else appends meanwhile: the head's row is ours.
async fn numbered(change: &mut Change, head: u64, events: &[NewEvent]) -> Result<Vec<Event>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut aggregates: Vec<&str> = events.iter().map(|event| event.aggregate.as_str()).collect();
    aggregates.sort_unstable();
    aggregates.dedup();
    let wanted = json(&aggregates)?;
    let mut last = std::collections::BTreeMap::new();
    for row in change.rows(LAST_SEQUENCES, &[Arg::Text(&wanted)]).await? {
        last.insert(row.text(0)?, row.number(1)?);
    }
    let mut numbered = Vec::with_capacity(events.len());
    for (position, event) in (head + 1..).zip(events) {
        let sequence = last.entry(event.aggregate.clone()).or_insert(0);
        *sequence += 1;
        numbered.push(Event {
            position,
            aggregate: event.aggregate.clone(),
            sequence: *sequence,
            at: moment(event.at.micros())?,
            actor: event.actor.clone(),
            kind: event.kind.clone(),
            detail: event.detail.clone(),
        });
    }
    Ok(numbered)
}

fn render(events: &[Event]) -> Result<String, StoreError> {
    let mut rows = Vec::with_capacity(events.len());
    for event in events {
        rows.push(EventRow {
            position: event.position,
            aggregate: &event.aggregate,
            sequence: event.sequence,
            at: event.at.micros(),
            actor: json(&event.actor)?,
            kind: &event.kind,
            detail: json(&event.detail)?,
        });
    }
    json(&rows)
}

pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::corrupt(error.to_string()))
}

fn head_of(rows: &[Row]) -> Result<u64, StoreError> {
    rows.first()
        .ok_or_else(|| StoreError::corrupt("the log has no head"))?
        .number(0)
}

fn event_of(row: &Row) -> Result<Event, StoreError> {
    let position = row.number(0)?;
    let unreadable = |error: serde_json::Error| StoreError::corrupt(format!("event {position}: {error}"));
    Ok(Event {
        position,
        aggregate: row.text(1)?,
        sequence: row.number(2)?,
        at: moment(row.int(3)?)?,
        actor: serde_json::from_str(&row.text(4)?).map_err(unreadable)?,
        kind: row.text(5)?,
        detail: serde_json::from_str(&row.text(6)?).map_err(unreadable)?,
    })
}
