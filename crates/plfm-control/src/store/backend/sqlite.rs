//! One file, readable for its owner only.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::Backend;
use crate::store::StoreError;

/// Connections that read while one writes.
const READERS_MAX: u32 = 4;
/// How long a statement waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the file is opened anew while another process turns it into write-ahead mode, which does not wait.
const OPEN_TRIES_MAX: u32 = 50;
/// Between two tries.
const OPEN_PAUSE: Duration = Duration::from_millis(20);

pub(in crate::store) async fn open(path: &Path) -> Result<Backend, StoreError> {
    make_private(path, false)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let writer = open_pool(SqlitePoolOptions::new().max_connections(1), options.clone()).await?;
    let readers = open_pool(
        SqlitePoolOptions::new().max_connections(READERS_MAX),
        options.pragma("query_only", "on"),
    )
    .await?;
    Ok(Backend::Sqlite { writer, readers })
}

async fn open_pool(pool: SqlitePoolOptions, options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    let pool = pool.acquire_timeout(BUSY_TIMEOUT);
    let mut tries = 1;
    loop {
        match pool
            .clone()
            .connect_with(options.clone())
            .await
            .map_err(StoreError::from)
        {
            Err(error) if error.is_retryable() && tries < OPEN_TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(OPEN_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

/// Copies the database, as it is at this moment, to a new file.
pub(in crate::store) async fn copy(writer: &SqlitePool, to: &Path) -> Result<(), StoreError> {
    let text = to.to_str().ok_or_else(|| StoreError::File {
        path: to.to_owned(),
        source: std::io::Error::other("its name is not UTF-8"),
    })?;
    make_private(to, true)?;
    // A connection of its own: writing goes on meanwhile.
    let mut connection = writer.connect_options().as_ref().clone().connect().await?;
    sqlx::query("VACUUM INTO $1")
        .bind(text)
        .execute(&mut connection)
        .await?;
    sync(to)
}

/// Makes the file before SQLite does, which would make it as readable as the umask allows. What SQLite puts beside it
/// gets the same permissions.
fn make_private(path: &Path, only_new: bool) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if only_new {
        options.create_new(true);
    } else {
        options.create(true).truncate(false);
    }
    options
        .open(path)
        .map(drop)
        .map_err(|source| file_error(path, source))
}

fn sync(path: &Path) -> Result<(), StoreError> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    for path in [path, &directory] {
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(|source| file_error(path, source))?;
    }
    Ok(())
}

fn file_error(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::File {
        path: path.to_owned(),
        source,
    }
}
