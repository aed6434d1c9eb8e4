//! Why a command is not carried out.

use plfm_release::ReleaseId;

/// The kind of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// What was named is not there.
    NotFound,
    /// Something is in the way.
    Conflict,
    /// The command is wrong in itself.
    Invalid,
    /// The secret is wrong, or its time is over.
    Unauthorized,
}

/// Why a command is not carried out. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is refused.
    #[error("{detail}")]
    No {
        /// The kind.
        kind: RefusalKind,
        /// The stable code.
        code: &'static str,
        /// What, on what, why.
        detail: String,
        /// One thing to do.
        hint: Option<String>,
    },
    /// It cannot be decided before it is known which active hosts lack this release: [`Context::lacking`](super::Context).
    #[error("it is not known which hosts lack {0}")]
    NeedsLacking(Box<ReleaseId>),
}

impl Refusal {
    pub(super) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::no(RefusalKind::NotFound, code, detail)
    }

    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::no(RefusalKind::Conflict, code, detail)
    }

    pub(super) fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::no(RefusalKind::Invalid, code, detail)
    }

    pub(super) fn no(kind: RefusalKind, code: &'static str, detail: impl Into<String>) -> Self {
        Self::No {
            kind,
            code,
            detail: detail.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::No { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::No { code, .. } => code,
            Self::NeedsLacking(_) => "internal",
        }
    }
}
