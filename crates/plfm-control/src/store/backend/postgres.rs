//! A server that several replicas share.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::Backend;
use crate::store::StoreError;

/// Connections of one replica.
const CONNECTIONS_MAX: u32 = 12;
/// How long one waits for a connection, while the server starts again above all.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Said at the beginning of each session. A commit that was acknowledged is on disk; nothing waits without a bound, not
/// even for a replica that stopped in the middle of a transaction.
const SESSION: [(&str, &str); 4] = [
    ("synchronous_commit", "on"),
    ("statement_timeout", "20s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "15s"),
];

pub(in crate::store) async fn open(url: &str) -> Result<Backend, StoreError> {
    // The error is not shown: it may quote the address, with a password in it.
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| StoreError::Address {
            why: "; this one of PostgreSQL cannot be read",
        })?
        .application_name("plfm-control")
        .options(SESSION)
        .disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await?;
    Ok(Backend::Postgres(pool))
}
