//! The two databases behind one face: a statement in the words of each, its arguments, its rows.
//!
//! What is decided is written once, above this; only the words differ.

mod postgres;
mod sqlite;

use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Postgres, Row as _, Sqlite, Transaction};

pub(super) use postgres::open as open_postgres;
pub(super) use sqlite::{copy as copy_sqlite, open as open_sqlite};

use super::StoreError;

/// A database.
#[derive(Clone)]
pub(super) enum Backend {
    Sqlite {
        /// One connection: SQLite has one writer at a time, and waiting here is fairer than its busy handler.
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// A statement in the words of both. Arguments are `$1`, `$2`, …
#[derive(Clone, Copy)]
pub(super) struct Sql {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Sql {
    /// A statement that both understand.
    pub(super) const fn shared(text: &'static str) -> Self {
        Self {
            sqlite: text,
            postgres: text,
        }
    }

    pub(super) const fn of(sqlite: &'static str, postgres: &'static str) -> Self {
        Self { sqlite, postgres }
    }
}

/// An argument. Many rows at once are one text of JSON.
#[derive(Clone, Copy)]
pub(super) enum Arg<'a> {
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// A row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! column {
    ($name:ident, $type:ty) => {
        pub(super) fn $name(&self, index: usize) -> Result<$type, StoreError> {
            match self {
                Self::Sqlite(row) => row.try_get(index),
                Self::Postgres(row) => row.try_get(index),
            }
            .map_err(|error| StoreError::corrupt(format!("column {index}: {error}")))
        }
    };
}

impl Row {
    column!(int, i64);
    column!(int_if_any, Option<i64>);
    column!(text, String);
    column!(text_if_any, Option<String>);
    column!(bytes, Vec<u8>);

    /// A number that was stored from a `u64` by [`stored`].
    pub(super) fn number(&self, index: usize) -> Result<u64, StoreError> {
        self.int(index)?
            .try_into()
            .map_err(|_| StoreError::corrupt(format!("column {index} is negative")))
    }

    /// A text that means something.
    pub(super) fn parsed<T: std::str::FromStr>(&self, index: usize) -> Result<T, StoreError> {
        let text = self.text(index)?;
        text.parse()
            .map_err(|_| StoreError::corrupt(format!("column {index}: {text:?}")))
    }
}

/// How a number is stored: both databases end at `i64::MAX`. Nothing honest comes near it.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

macro_rules! bound {
    ($database:ty, $sql:expr, $args:expr) => {{
        let mut query = sqlx::query::<$database>($sql);
        for arg in $args {
            query = match *arg {
                Arg::Int(value) => query.bind(value),
                Arg::Text(value) => query.bind(value),
                Arg::Bytes(value) => query.bind(value),
            };
        }
        query
    }};
}

impl Backend {
    /// Rows, outside of any transaction.
    pub(super) async fn rows(&self, sql: Sql, args: &[Arg<'_>]) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite { readers, .. } => {
                let rows = bound!(Sqlite, sql.sqlite, args).fetch_all(readers).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(pool) => {
                let rows = bound!(Postgres, sql.postgres, args).fetch_all(pool).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// One change, alone. How many rows it concerned.
    pub(super) async fn execute(&self, sql: Sql, args: &[Arg<'_>]) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => bound!(Sqlite, sql.sqlite, args)
                .execute(writer)
                .await?
                .rows_affected(),
            Self::Postgres(pool) => bound!(Postgres, sql.postgres, args)
                .execute(pool)
                .await?
                .rows_affected(),
        })
    }

    /// Begins a change. SQLite takes the write lock at once: a transaction that begins by reading could not be
    /// upgraded if somebody else wrote meanwhile.
    pub(super) async fn begin(&self) -> Result<Change, StoreError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Change::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Change::Postgres(pool.begin().await?),
        })
    }
}

/// A change under way. Dropped, it did not happen.
pub(super) enum Change {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Change {
    pub(super) async fn rows(&mut self, sql: Sql, args: &[Arg<'_>]) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => {
                let rows = bound!(Sqlite, sql.sqlite, args).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(tx) => {
                let rows = bound!(Postgres, sql.postgres, args).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    pub(super) async fn execute(&mut self, sql: Sql, args: &[Arg<'_>]) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => bound!(Sqlite, sql.sqlite, args)
                .execute(&mut **tx)
                .await?
                .rows_affected(),
            Self::Postgres(tx) => bound!(Postgres, sql.postgres, args)
                .execute(&mut **tx)
                .await?
                .rows_affected(),
        })
    }

    /// Runs a file of statements.
    pub(super) async fn run_script(&mut self, script: Sql) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => {
                sqlx::raw_sql(script.sqlite).execute(&mut **tx).await?;
            }
            Self::Postgres(tx) => {
                sqlx::raw_sql(script.postgres).execute(&mut **tx).await?;
            }
        }
        Ok(())
    }

    /// The script, in this database's words.
    pub(super) fn text(&self, script: Sql) -> &'static str {
        match self {
            Self::Sqlite(_) => script.sqlite,
            Self::Postgres(_) => script.postgres,
        }
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}
