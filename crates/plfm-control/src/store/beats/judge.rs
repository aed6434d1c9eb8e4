//! Which heartbeat is news, which a repetition, and which comes from a time that is not remembered.
//!
//! A host's streams are remembered with the last sequence of each that was applied, [`STREAMS_MAX`] of them. When one
//! is forgotten, every unknown stream up to it is refused from then on: it may be the forgotten one, whose news are
//! counted already. Streams are ULIDs, so that a host's next stream is greater.

use std::collections::BTreeMap;

use ulid::Ulid;

use super::Beat;
use crate::store::moment::Micros;

/// Streams of one host that are remembered. A host begins another one only when it lost its state.
pub const STREAMS_MAX: usize = 8;

/// What is known of a host.
pub(super) struct Known {
    pub(super) agent_version: String,
    pub(super) generation: u64,
    /// The stream whose word on the host's inventory counts.
    pub(super) stream: Option<Ulid>,
    /// The greatest stream that was forgotten.
    pub(super) dropped: Option<Ulid>,
    pub(super) status_at: Option<i64>,
    pub(super) status_wanted: bool,
    /// The last sequence of each stream, and when it came.
    pub(super) streams: BTreeMap<Ulid, (u64, i64)>,
}

impl Known {
    /// The part of it that is the host's row.
    pub(super) fn host(&self) -> HostState {
        HostState {
            agent_version: self.agent_version.clone(),
            generation: self.generation,
            stream: self.stream,
            dropped: self.dropped,
            status_at: self.status_at,
            status_wanted: self.status_wanted,
        }
    }
}

/// What is written of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostState {
    pub(super) agent_version: String,
    pub(super) generation: u64,
    pub(super) stream: Option<Ulid>,
    pub(super) dropped: Option<Ulid>,
    pub(super) status_at: Option<i64>,
    pub(super) status_wanted: bool,
}

/// What a heartbeat is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Its news are new.
    pub(super) applied: bool,
    /// Its stream is older than what is remembered.
    pub(super) refused: bool,
    /// It is the host's newest word: on what it runs and on what it wants.
    pub(super) newest: bool,
    /// Its status replaces the one that is here.
    pub(super) status: bool,
    /// The last sequence of its stream, afterwards.
    pub(super) sequence: u64,
    /// The streams to forget.
    pub(super) drop: Vec<Ulid>,
    /// The host's row, afterwards.
    pub(super) host: HostState,
}

pub(super) fn judge(known: &Known, beat: &Beat) -> Judgement {
    let last = known.streams.get(&beat.stream).map(|(sequence, _)| *sequence);
    let refused = last.is_none() && known.dropped.is_some_and(|dropped| beat.stream <= dropped);
    let before = last.unwrap_or(0);
    let applied = !refused && beat.has_news() && beat.sequence > before;
    let newest = !refused && leads(known, beat.stream) && beat.sequence >= before;
    let status = applied && newest && beat.status.is_some();
    let drop = if applied && last.is_none() {
        forgotten(known)
    } else {
        Vec::new()
    };
    let mut host = known.host();
    host.dropped = host.dropped.max(drop.iter().max().copied());
    if newest {
        host.status_wanted = !status && (host.status_wanted || is_status_missed(known, beat, before));
        host.agent_version = beat.agent_version.to_string();
        host.generation = beat.generation.0;
        host.stream = Some(beat.stream);
    }
    if status {
        host.status_at = Some(beat.seen_at.micros());
    }
    let sequence = if applied { beat.sequence } else { before };
    Judgement {
        applied,
        refused,
        newest,
        status,
        sequence,
        drop,
        host,
    }
}

/// Whether the stream is the host's newest. One that was never heard of is, even if its ULID is smaller, as of a host
/// whose clock was put back; between two that are known the ULIDs decide.
fn leads(known: &Known, stream: Ulid) -> bool {
    known.stream.is_none_or(|current| stream >= current) || !known.streams.contains_key(&stream)
}

/// Whether the host may have said something about itself that is not here: it began anew, it is further than what
/// arrived, or news were skipped. So it is after a database was restored from a backup.
fn is_status_missed(known: &Known, beat: &Beat, before: u64) -> bool {
    let expected = if beat.has_news() {
        before.saturating_add(1)
    } else {
        before
    };
    known.stream != Some(beat.stream) || beat.sequence > expected
}

/// Which streams make room for another one: those that were not used for the longest.
fn forgotten(known: &Known) -> Vec<Ulid> {
    let mut by_use: Vec<(i64, Ulid)> = known
        .streams
        .iter()
        .map(|(stream, (_, used))| (*used, *stream))
        .collect();
    by_use.sort_unstable();
    let excess = (by_use.len() + 1).saturating_sub(STREAMS_MAX);
    by_use
        .into_iter()
        .take(excess)
        .map(|(_, stream)| stream)
        .collect()
}
