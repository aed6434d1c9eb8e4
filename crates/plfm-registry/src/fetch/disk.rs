//! A file of the client's own directory that could not be read or written.

use std::io;
use std::path::PathBuf;

/// A file of the client's own directory that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried.
    pub action: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        if self.source.kind() == io::ErrorKind::StorageFull {
            "disk_full"
        } else {
            "disk_error"
        }
    }
}
