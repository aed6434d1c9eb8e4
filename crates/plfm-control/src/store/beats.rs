//! Heartbeats, many at once: a batch is one transaction with a handful of statements, whatever its size.
//!
//! Each host's row is locked first, in the order of the hosts' ids, so that two replicas take turns per host and never
//! wait for each other in a circle. What is news is then decided by [`judge`], which is pure, and written.

mod inventory;
mod judge;
mod leases;
mod outcomes;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use plfm_api::control::{Generation, HostId, HostStatus, OutcomeCount};
use plfm_release::ReleaseId;
use serde::Serialize;
use ulid::Ulid;

pub use judge::STREAMS_MAX;
pub use leases::{LEASE_HELD_MAX, LEASE_RENEWED_FOR};

use super::backend::{Arg, Change, Row, Sql, stored};
use super::log::json;
use super::moment::Micros;
use super::{Store, StoreError};
use judge::{Judgement, Known};

/// A heartbeat, as it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// Whose.
    pub host: HostId,
    /// Which run of sequences.
    pub stream: Ulid,
    /// The number of the news in it; with no news, that of the last.
    pub sequence: u64,
    /// The agent's version.
    pub agent_version: semver::Version,
    /// The generation that the host goes by.
    pub generation: Generation,
    /// When it arrived here.
    pub seen_at: Timestamp,
    /// How the host is, if it said so.
    pub status: Option<HostStatus>,
    /// Boots.
    pub outcomes: Vec<OutcomeCount>,
    /// Releases that it wants to fetch.
    pub wants: Vec<ReleaseId>,
}

impl Beat {
    /// Whether there is something in it that counts once.
    pub fn has_news(&self) -> bool {
        self.status.is_some() || !self.outcomes.is_empty()
    }
}

/// What became of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Whose.
    pub host: HostId,
    /// The last news of that stream that are kept.
    pub sequence: u64,
    /// Whether the news in it were new.
    pub applied: bool,
    /// The stream is older than those that are remembered: nothing of it is taken, now or later. The host must begin
    /// another one.
    pub refused: bool,
    /// Whether the host's status is here and nothing was missed since. Otherwise it should send it.
    pub has_status: bool,
    /// Of what it wants, what it may fetch now.
    pub may_fetch: Vec<ReleaseId>,
}

#[derive(Serialize)]
struct Touch<'a> {
    host: &'a str,
    seen_at: i64,
    agent_version: String,
    generation: i64,
}

/// The one update per batch that every heartbeat costs. Last seen never goes back.
const TOUCH: Sql = Sql::of(
    "INSERT INTO hosts (host, seen_at, agent_version, generation, status_wanted)
     SELECT value ->> 'host', value ->> 'seen_at', value ->> 'agent_version', value ->> 'generation', 0
     FROM json_each($1) WHERE true ORDER BY 1
     ON CONFLICT (host) DO UPDATE SET seen_at = MAX(seen_at, excluded.seen_at)
     RETURNING host, agent_version, generation, stream, streams_dropped, status_at, status_wanted",
    "INSERT INTO hosts (host, seen_at, agent_version, generation, status_wanted)
     SELECT host, seen_at, agent_version, generation, 0
     FROM json_to_recordset($1::json) AS x (host text, seen_at bigint, agent_version text, generation bigint)
     ORDER BY host COLLATE \"C\"
     ON CONFLICT (host) DO UPDATE SET seen_at = GREATEST(hosts.seen_at, excluded.seen_at)
     RETURNING host, agent_version, generation, stream, streams_dropped, status_at, status_wanted",
);

const STREAMS: Sql = Sql::of(
    "SELECT host, stream, sequence, used_at FROM host_streams WHERE host IN (SELECT value FROM json_each($1))",
    "SELECT host, stream, sequence, used_at FROM host_streams
     WHERE host IN (SELECT value FROM json_array_elements_text($1::json) AS x (value))",
);

#[derive(Serialize)]
struct HostChange<'a> {
    host: &'a str,
    agent_version: &'a str,
    generation: i64,
    stream: Option<String>,
    streams_dropped: Option<String>,
    status_at: Option<i64>,
    status_wanted: i64,
}

const CHANGE_HOSTS: Sql = Sql::of(
    "UPDATE hosts SET agent_version = value ->> 'agent_version', generation = value ->> 'generation',
            stream = value ->> 'stream', streams_dropped = value ->> 'streams_dropped',
            status_at = value ->> 'status_at', status_wanted = value ->> 'status_wanted'
     FROM json_each($1) WHERE hosts.host = value ->> 'host'",
    "UPDATE hosts SET agent_version = x.agent_version, generation = x.generation, stream = x.stream,
            streams_dropped = x.streams_dropped, status_at = x.status_at, status_wanted = x.status_wanted
     FROM json_to_recordset($1::json)
          AS x (host text, agent_version text, generation bigint, stream text, streams_dropped text,
                status_at bigint, status_wanted bigint)
     WHERE hosts.host = x.host",
);

#[derive(Serialize)]
struct StreamRow<'a> {
    host: &'a str,
    stream: String,
    sequence: i64,
    used_at: i64,
}

const KEEP_STREAMS: Sql = Sql::of(
    "INSERT INTO host_streams (host, stream, sequence, used_at)
     SELECT value ->> 'host', value ->> 'stream', value ->> 'sequence', value ->> 'used_at'
     FROM json_each($1) WHERE true
     ON CONFLICT (host, stream) DO UPDATE SET sequence = excluded.sequence, used_at = excluded.used_at",
    "INSERT INTO host_streams (host, stream, sequence, used_at)
     SELECT host, stream, sequence, used_at
     FROM json_to_recordset($1::json) AS x (host text, stream text, sequence bigint, used_at bigint)
     ON CONFLICT (host, stream) DO UPDATE SET sequence = excluded.sequence, used_at = excluded.used_at",
);

const DROP_STREAMS: Sql = Sql::of(
    "DELETE FROM host_streams WHERE (host, stream) IN
         (SELECT value ->> 'host', value ->> 'stream' FROM json_each($1))",
    "DELETE FROM host_streams AS s USING json_to_recordset($1::json) AS x (host text, stream text)
     WHERE s.host = x.host AND s.stream = x.stream",
);

/// A heartbeat and what it is found to be.
struct Judged<'a> {
    beat: &'a Beat,
    known: Known,
    judgement: Judgement,
}

impl Store {
    /// Takes heartbeats, all of them or none. Each host once. News are applied if their sequence is greater than the last
    /// one of their stream that was; whatever else only moves last seen forward.
    ///
    /// At most `fetches_max` hosts may fetch at once; 0 is no bound. After [`StoreError::Unavailable`] it may have
    /// happened: take them again.
    pub async fn take_beats(
        &self,
        beats: &[Beat],
        fetches_max: u32,
        now: Timestamp,
    ) -> Result<Vec<Taken>, StoreError> {
        if beats.is_empty() {
            return Ok(Vec::new());
        }
        let sorted = sorted_by_host(beats)?;
        let mut change = self.backend.begin().await?;
        let known = touch(&mut change, &sorted).await?;
        let judged = judge_all(&sorted, known)?;
        keep_hosts(&mut change, &judged).await?;
        keep_streams(&mut change, &judged).await?;
        inventory::replace(&mut change, &judged).await?;
        let may_fetch = leases::settle(&mut change, &judged, fetches_max, now).await?;
        outcomes::add(&mut change, &judged).await?;
        change.commit().await?;
        let mut taken: BTreeMap<&HostId, Taken> = judged
            .iter()
            .map(|judged| (&judged.beat.host, taken_of(judged, &may_fetch)))
            .collect();
        Ok(beats.iter().filter_map(|beat| taken.remove(&beat.host)).collect())
    }
}

fn sorted_by_host(beats: &[Beat]) -> Result<Vec<&Beat>, StoreError> {
    let mut sorted: Vec<&Beat> = beats.iter().collect();
    sorted.sort_by(|a, b| a.host.cmp(&b.host));
    let twice = sorted.windows(2).find_map(|pair| match pair {
        [a, b] if a.host == b.host => Some(a.host.to_string()),
        _ => None,
    });
    match twice {
        Some(host) => Err(StoreError::HostTwice { host }),
        None => Ok(sorted),
    }
}

/// Locks the hosts and reads what is known of them.
async fn touch(change: &mut Change, sorted: &[&Beat]) -> Result<BTreeMap<String, Known>, StoreError> {
    let touches: Vec<Touch<'_>> = sorted
        .iter()
        .map(|beat| Touch {
            host: beat.host.as_str(),
            seen_at: beat.seen_at.micros(),
            agent_version: beat.agent_version.to_string(),
            generation: stored(beat.generation.0),
        })
        .collect();
    let mut known = BTreeMap::new();
    for row in change.rows(TOUCH, &[Arg::Text(&json(&touches)?)]).await? {
        known.insert(row.text(0)?, known_of(&row)?);
    }
    let hosts: Vec<&str> = sorted.iter().map(|beat| beat.host.as_str()).collect();
    for row in change.rows(STREAMS, &[Arg::Text(&json(&hosts)?)]).await? {
        if let Some(known) = known.get_mut(&row.text(0)?) {
            known
                .streams
                .insert(row.parsed(1)?, (row.number(2)?, row.int(3)?));
        }
    }
    Ok(known)
}

fn known_of(row: &Row) -> Result<Known, StoreError> {
    Ok(Known {
        agent_version: row.text(1)?,
        generation: row.number(2)?,
        stream: stream_of(row.text_if_any(3)?)?,
        dropped: stream_of(row.text_if_any(4)?)?,
        status_at: row.int_if_any(5)?,
        status_wanted: row.int(6)? != 0,
        streams: BTreeMap::new(),
    })
}

fn stream_of(text: Option<String>) -> Result<Option<Ulid>, StoreError> {
    text.map(|text| {
        text.parse()
            .map_err(|_| StoreError::corrupt(format!("stream {text:?}")))
    })
    .transpose()
}

fn judge_all<'a>(
    sorted: &[&'a Beat],
    mut known: BTreeMap<String, Known>,
) -> Result<Vec<Judged<'a>>, StoreError> {
    let mut judged = Vec::with_capacity(sorted.len());
    for beat in sorted {
        let known = known
            .remove(beat.host.as_str())
            .ok_or_else(|| StoreError::corrupt(format!("host {} is gone", beat.host)))?;
        let judgement = judge::judge(&known, beat);
        judged.push(Judged {
            beat,
            known,
            judgement,
        });
    }
    Ok(judged)
}

async fn keep_hosts(change: &mut Change, judged: &[Judged<'_>]) -> Result<(), StoreError> {
    let rows: Vec<HostChange<'_>> = judged
        .iter()
        .filter(|judged| judged.judgement.host != judged.known.host())
        .map(|judged| {
            let host = &judged.judgement.host;
            HostChange {
                host: judged.beat.host.as_str(),
                agent_version: &host.agent_version,
                generation: stored(host.generation),
                stream: host.stream.map(|stream| stream.to_string()),
                streams_dropped: host.dropped.map(|stream| stream.to_string()),
                status_at: host.status_at,
                status_wanted: host.status_wanted.into(),
            }
        })
        .collect();
    if !rows.is_empty() {
        change.execute(CHANGE_HOSTS, &[Arg::Text(&json(&rows)?)]).await?;
    }
    Ok(())
}

async fn keep_streams(change: &mut Change, judged: &[Judged<'_>]) -> Result<(), StoreError> {
    let mut kept = Vec::new();
    let mut dropped = Vec::new();
    for Judged { beat, judgement, .. } in judged {
        let row = |stream: Ulid| StreamRow {
            host: beat.host.as_str(),
            stream: stream.to_string(),
            sequence: stored(beat.sequence),
            used_at: beat.seen_at.micros(),
        };
        if judgement.applied {
            kept.push(row(beat.stream));
        }
        dropped.extend(judgement.drop.iter().map(|stream| row(*stream)));
    }
    if !kept.is_empty() {
        change.execute(KEEP_STREAMS, &[Arg::Text(&json(&kept)?)]).await?;
    }
    if !dropped.is_empty() {
        change
            .execute(DROP_STREAMS, &[Arg::Text(&json(&dropped)?)])
            .await?;
    }
    Ok(())
}

fn taken_of(judged: &Judged<'_>, may_fetch: &BTreeSet<HostId>) -> Taken {
    let Judged { beat, judgement, .. } = judged;
    Taken {
        host: beat.host.clone(),
        sequence: judgement.sequence,
        applied: judgement.applied,
        refused: judgement.refused,
        has_status: judgement.host.status_at.is_some() && !judgement.host.status_wanted,
        may_fetch: if may_fetch.contains(&beat.host) {
            leases::wanted(beat)
        } else {
            Vec::new()
        },
    }
}
