//! What the database has of all that was sent, asked past the control plane.

use serde::Serialize;
use sqlx::{Connection as _, PgConnection, SqliteConnection};

/// What the database has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Hosts that were heard of.
    pub hosts: i64,
    /// News: each raises its host's sequence by one.
    pub news: i64,
    /// Boots, in total.
    pub boots: i64,
    /// Boots, by minute and host.
    pub boots_by_minute: i64,
}

const COUNT: &str = "SELECT (SELECT COUNT(*) FROM hosts WHERE seen_at > 0),
    (SELECT CAST(COALESCE(SUM(sequence), 0) AS BIGINT) FROM host_streams),
    (SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM boot_totals),
    (SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM boot_outcomes)";

type Row = (i64, i64, i64, i64);

impl Counted {
    pub async fn in_database(url: &str) -> anyhow::Result<Self> {
        let (hosts, news, boots, boots_by_minute): Row = if url.starts_with("sqlite:") {
            let mut connection = SqliteConnection::connect(url).await?;
            sqlx::query_as(COUNT).fetch_one(&mut connection).await?
        } else {
            let mut connection = PgConnection::connect(url).await?;
            sqlx::query_as(COUNT).fetch_one(&mut connection).await?
        };
        Ok(Self {
            hosts,
            news,
            boots,
            boots_by_minute,
        })
    }
}
