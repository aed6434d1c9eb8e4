//! Why the store could not do it.

use std::path::PathBuf;

/// Why the database could not be opened, read or changed. Has no text of the database's address, which may hold a
/// password.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is not one of a database.
    #[error("the database is given as sqlite:PATH or postgres://…{why}")]
    Address {
        /// What is wrong with it, with what joins it to the rest.
        why: &'static str,
    },
    /// The file cannot be made, opened or copied.
    #[error("{path} cannot be used for the database")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database was changed by a newer control plane.
    #[error(
        "the database has version {found}, and this control plane knows versions up to {known}: run the newer one"
    )]
    NewerSchema {
        /// The database's version.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// A version of the database is not the one that is known by that number.
    #[error("version {version} of the database is not what this control plane knows by that number")]
    OtherSchema {
        /// The version.
        version: i64,
    },
    /// What is stored is not what was written.
    #[error("the database holds something else than was written: {what}")]
    Corrupt {
        /// What it is.
        what: String,
    },
    /// A host was given twice in one call.
    #[error("host {host} is twice in one batch")]
    HostTwice {
        /// The host.
        host: String,
    },
    /// More than a decision makes.
    #[error("{count} events are more than the {max} that are appended at once")]
    TooManyEvents {
        /// How many.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// Copying to a file is SQLite's; PostgreSQL has tools of its own.
    #[error("a PostgreSQL database is backed up with pg_dump")]
    BackupElsewhere,
    /// The database cannot be reached, is busy, or took too long. It may have done what was asked.
    #[error("the database does not answer")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused.
    #[error("the database refused")]
    Refused(#[source] sqlx::Error),
}

impl StoreError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "database_address",
            Self::File { .. } => "database_file",
            Self::NewerSchema { .. } => "database_newer",
            Self::OtherSchema { .. } => "database_other",
            Self::Corrupt { .. } => "database_corrupt",
            Self::HostTwice { .. } => "host_twice",
            Self::TooManyEvents { .. } => "too_many_events",
            Self::BackupElsewhere => "backup_elsewhere",
            Self::Unavailable(_) => "database_unavailable",
            Self::Refused(_) => "database_refused",
        }
    }

    /// Whether the same may work a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let passes = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Tls(_) => true,
            sqlx::Error::Database(database) => database.code().is_some_and(|code| passes(&code)),
            _ => false,
        };
        if passes {
            Self::Unavailable(error)
        } else {
            Self::Refused(error)
        }
    }
}

/// Whether a database's own code stands for something that passes. PostgreSQL: lost connections (class 08), no room for
/// another one (53), shutting down, starting up and timeouts (57), deadlocks and serialization (40), a lock that took
/// too long (55P03), a session that was ended (25P03). SQLite's codes are numbers, the low byte is the kind: busy (5)
/// and locked (6).
fn passes(code: &str) -> bool {
    if code.len() == 5 {
        return ["08", "53", "57", "40"]
            .iter()
            .any(|class| code.starts_with(class))
            || ["55P03", "25P03"].contains(&code);
    }
    code.parse::<i32>()
        .is_ok_and(|code| [5, 6].contains(&(code & 0xff)))
}

/// Why events were not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended first: catch up and decide again.
    #[error("the log is at {head} by now")]
    Moved {
        /// Where the log is.
        head: u64,
    },
    /// The request was answered before: give that answer.
    #[error("the request was answered before")]
    Answered,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AppendError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Moved { .. } => "log_moved",
            Self::Answered => "answered_before",
            Self::Store(error) => error.code(),
        }
    }
}

impl From<sqlx::Error> for AppendError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
