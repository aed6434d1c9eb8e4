//! Why the store could not do something.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::BuildError;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk could not be built.
    #[error("the root disk cannot be built")]
    Build(#[source] BuildError),
    /// A file of the store cannot be worked with.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// A stable word for what happened.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Build(error) => error.code(),
            Self::Io { .. } => "image_store_io",
        }
    }
}

pub(super) fn fail(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}
