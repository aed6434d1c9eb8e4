//! What is known of hosts and their streams: read under a lock on the hosts, and written when it changed.

use std::collections::BTreeMap;

use serde::Serialize;
use ulid::Ulid;

use super::judge::Known;
use super::{Beat, Judged};
use crate::store::StoreError;
use crate::store::backend::{Arg, Change, Row, Sql, stored};
use crate::store::log::json;
use crate::store::moment::Micros;

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

/// Locks the hosts and reads what is known of them.
pub(super) async fn touch(
    change: &mut Change,
    sorted: &[&Beat],
) -> Result<BTreeMap<String, Known>, StoreError> {
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

pub(super) async fn keep_hosts(change: &mut Change, judged: &[Judged<'_>]) -> Result<(), StoreError> {
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

pub(super) async fn keep_streams(change: &mut Change, judged: &[Judged<'_>]) -> Result<(), StoreError> {
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
