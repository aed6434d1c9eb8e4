//! What a stage returns when it fails.

use plfm_guest_protocol::Reason;

/// A stage's failure: the reason for machines, the detail for people, the system's error number.
#[derive(Debug)]
pub struct StageError {
    pub reason: Reason,
    pub detail: String,
    pub errno: Option<i32>,
}

impl StageError {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            errno: None,
        }
    }

    /// `what` failed with the system error `error`.
    pub fn os(reason: Reason, what: impl std::fmt::Display, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        Self {
            reason,
            detail: format!("{what}: {error}"),
            errno: error.raw_os_error(),
        }
    }
}
