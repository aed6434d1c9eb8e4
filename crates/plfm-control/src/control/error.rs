use crate::fleet::{ApplyError, Refusal};
use crate::store::StoreError;

/// Why the control plane did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It is not to be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log has something that this version does not understand.
    #[error("the log cannot be followed")]
    Log(#[from] ApplyError),
    /// The key was used for something else.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// Too many changes at once.
    #[error("others changed the fleet each time that this was decided")]
    Contended,
    /// Too many heartbeats at once.
    #[error("more heartbeats wait than the database takes")]
    Busy,
    /// A heartbeat that says nonsense.
    #[error("{0}")]
    Heartbeat(String),
    /// A heartbeat of a run of news that was given up long ago.
    #[error("the heartbeat's stream is older than those that are remembered")]
    StreamTooOld,
    /// The database refused heartbeats, with this code.
    #[error("the heartbeat could not be kept: {0}")]
    NotKept(&'static str),
    /// It ends.
    #[error("the control plane is ending")]
    Ending,
    /// No id could be made.
    #[error("no id could be made")]
    Id(#[from] plfm_api::control::HostIdError),
    /// No certificate can be issued.
    #[error("no certificate can be issued")]
    Issue(#[from] crate::authority::IssueError),
    /// An answer from the store that is none.
    #[error("an answer that was kept cannot be read")]
    KeptAnswer(#[source] serde_json::Error),
}
