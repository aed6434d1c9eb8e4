//! How boots ended: as reported for the decisions, by minute and host for a fortnight, and in total for the lists.

use std::collections::BTreeMap;

use plfm_api::control::OutcomeCount;
use serde::Serialize;

use super::Judged;
use crate::store::StoreError;
use crate::store::backend::{Arg, Change, Sql, stored};
use crate::store::log::json;
use crate::store::moment::Micros;

const MINUTE_MICROS: i64 = 60_000_000;

/// Sums end here: a host that reports nonsense must not make an addition fail, which would fail for the whole batch.
const ADD_MINUTES: Sql = Sql::of(
    "INSERT INTO boot_outcomes (minute, release, host, outcome, count, ready_ms_total, ready_ms_max)
     SELECT value ->> 'minute', value ->> 'release', value ->> 'host', value ->> 'outcome', value ->> 'count',
            value ->> 'ready_ms_total', value ->> 'ready_ms_max'
     FROM json_each($1) WHERE true
     ON CONFLICT (minute, release, host, outcome) DO UPDATE SET
         count = CAST(MIN(count + excluded.count, 9000000000000000000) AS INTEGER),
         ready_ms_total = CAST(MIN(ready_ms_total + excluded.ready_ms_total, 9000000000000000000) AS INTEGER),
         ready_ms_max = MAX(ready_ms_max, excluded.ready_ms_max)",
    "INSERT INTO boot_outcomes AS o (minute, release, host, outcome, count, ready_ms_total, ready_ms_max)
     SELECT minute, release, host, outcome, count, ready_ms_total, ready_ms_max
     FROM json_to_recordset($1::json)
          AS x (minute bigint, release text, host text, outcome text, count bigint, ready_ms_total bigint,
                ready_ms_max bigint)
     ON CONFLICT (minute, release, host, outcome) DO UPDATE SET
         count = LEAST(o.count::numeric + excluded.count, 9000000000000000000)::bigint,
         ready_ms_total = LEAST(o.ready_ms_total::numeric + excluded.ready_ms_total, 9000000000000000000)::bigint,
         ready_ms_max = GREATEST(o.ready_ms_max, excluded.ready_ms_max)",
);

/// The rows that all replicas write: few, in one order, last of all in the transaction.
const ADD_TOTALS: Sql = Sql::of(
    "INSERT INTO boot_totals (release, outcome, count, ready_ms_total)
     SELECT value ->> 'release', value ->> 'outcome', value ->> 'count', value ->> 'ready_ms_total'
     FROM json_each($1) WHERE true
     ON CONFLICT (release, outcome) DO UPDATE SET
         count = CAST(MIN(count + excluded.count, 9000000000000000000) AS INTEGER),
         ready_ms_total = CAST(MIN(ready_ms_total + excluded.ready_ms_total, 9000000000000000000) AS INTEGER)",
    "INSERT INTO boot_totals AS t (release, outcome, count, ready_ms_total)
     SELECT release, outcome, count, ready_ms_total
     FROM json_to_recordset($1::json) AS x (release text, outcome text, count bigint, ready_ms_total bigint)
     ORDER BY release COLLATE \"C\", outcome COLLATE \"C\"
     ON CONFLICT (release, outcome) DO UPDATE SET
         count = LEAST(t.count::numeric + excluded.count, 9000000000000000000)::bigint,
         ready_ms_total = LEAST(t.ready_ms_total::numeric + excluded.ready_ms_total, 9000000000000000000)::bigint",
);

const ADD_REPORTS: Sql = Sql::of(
    "INSERT INTO boot_reports (minute, release, host, outcome, bucket, count)
     SELECT value ->> 'minute', value ->> 'release', value ->> 'host', value ->> 'outcome', value ->> 'bucket',
            value ->> 'count'
     FROM json_each($1) WHERE true ORDER BY key",
    "INSERT INTO boot_reports (minute, release, host, outcome, bucket, count)
     SELECT minute, release, host, outcome, bucket, count
     FROM ROWS FROM (json_to_recordset($1::json)
          AS (minute bigint, release text, host text, outcome text, bucket bigint, count bigint))
          WITH ORDINALITY AS x (minute, release, host, outcome, bucket, count, place)
     ORDER BY place",
);

/// In place of a bucket where none was told.
const NO_BUCKET: i64 = -1;

#[derive(Serialize)]
struct ReportRow<'a> {
    minute: i64,
    release: String,
    host: &'a str,
    outcome: &'static str,
    bucket: i64,
    count: i64,
}

/// A row for each bucket, or one where none is told.
fn reports_of<'a>(host: &'a str, counted: &OutcomeCount) -> Vec<ReportRow<'a>> {
    let row = |bucket: i64, count: u32| ReportRow {
        minute: minute_of(counted),
        release: counted.release.to_string(),
        host,
        outcome: counted.outcome.as_str(),
        bucket,
        count: count.into(),
    };
    if counted.ready_ms_buckets.is_empty() {
        return vec![row(NO_BUCKET, counted.count)];
    }
    let buckets = counted.ready_ms_buckets.iter();
    buckets
        .map(|(bucket, count)| row((*bucket).into(), *count))
        .collect()
}

fn minute_of(counted: &OutcomeCount) -> i64 {
    let window = counted.window.micros();
    window - window.rem_euclid(MINUTE_MICROS)
}

/// Boots that are counted together.
#[derive(Default, Clone, Copy)]
struct Sum {
    count: u64,
    ready_ms_total: u64,
    ready_ms_max: u64,
}

impl Sum {
    fn add(&mut self, counted: &OutcomeCount) {
        self.count = self.count.saturating_add(counted.count.into());
        self.ready_ms_total = self.ready_ms_total.saturating_add(counted.ready_ms_total);
        self.ready_ms_max = self.ready_ms_max.max(counted.ready_ms_max);
    }
}

#[derive(Serialize)]
struct MinuteRow<'a> {
    minute: i64,
    release: &'a str,
    host: &'a str,
    outcome: &'static str,
    count: i64,
    ready_ms_total: i64,
    ready_ms_max: i64,
}

#[derive(Serialize)]
struct TotalRow<'a> {
    release: &'a str,
    outcome: &'static str,
    count: i64,
    ready_ms_total: i64,
}

pub(super) async fn add(change: &mut Change, judged: &[Judged<'_>]) -> Result<(), StoreError> {
    let mut minutes: BTreeMap<(i64, String, &str, &'static str), Sum> = BTreeMap::new();
    let mut totals: BTreeMap<(String, &'static str), Sum> = BTreeMap::new();
    let mut reports: Vec<ReportRow<'_>> = Vec::new();
    for Judged { beat, judgement, .. } in judged {
        if !judgement.applied {
            continue;
        }
        for counted in &beat.outcomes {
            reports.extend(reports_of(beat.host.as_str(), counted));
            let release = counted.release.to_string();
            let outcome = counted.outcome.as_str();
            let key = (minute_of(counted), release.clone(), beat.host.as_str(), outcome);
            minutes.entry(key).or_default().add(counted);
            totals.entry((release, outcome)).or_default().add(counted);
        }
    }
    if minutes.is_empty() {
        return Ok(());
    }
    change
        .execute(ADD_REPORTS, &[Arg::Text(&json(&reports)?)])
        .await?;
    change
        .execute(ADD_MINUTES, &[Arg::Text(&render_minutes(&minutes)?)])
        .await?;
    change
        .execute(ADD_TOTALS, &[Arg::Text(&render_totals(&totals)?)])
        .await?;
    Ok(())
}

fn render_minutes(minutes: &BTreeMap<(i64, String, &str, &'static str), Sum>) -> Result<String, StoreError> {
    let rows: Vec<MinuteRow<'_>> = minutes
        .iter()
        .map(|((minute, release, host, outcome), sum)| MinuteRow {
            minute: *minute,
            release,
            host,
            outcome,
            count: stored(sum.count),
            ready_ms_total: stored(sum.ready_ms_total),
            ready_ms_max: stored(sum.ready_ms_max),
        })
        .collect();
    json(&rows)
}

fn render_totals(totals: &BTreeMap<(String, &'static str), Sum>) -> Result<String, StoreError> {
    let rows: Vec<TotalRow<'_>> = totals
        .iter()
        .map(|((release, outcome), sum)| TotalRow {
            release,
            outcome,
            count: stored(sum.count),
            ready_ms_total: stored(sum.ready_ms_total),
        })
        .collect();
    json(&rows)
}
