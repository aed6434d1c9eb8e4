//! Where an image's bytes are: a directory of blobs, or members of a tar archive.

mod archive;
mod saved;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use plfm_release::Sha256Digest;

pub(crate) use archive::Archive;
pub use archive::ArchiveError;
pub(crate) use saved::SavedImage;

/// Opens a file that an image is read from. A pipe or a device in its place would have the reader wait for ever.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// Bytes in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    pub file: PathBuf,
    pub offset: u64,
    pub size_bytes: u64,
}

/// `sha256/<hex>` in a directory, as in the OCI image layout.
#[derive(Debug, Clone)]
pub(crate) struct BlobDirectory(PathBuf);

impl BlobDirectory {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn blob_path(&self, digest: Sha256Digest) -> PathBuf {
        self.0.join("sha256").join(digest.to_string())
    }

    /// The blob, if it is there.
    pub(crate) fn find(&self, digest: Sha256Digest) -> Result<Option<Extent>, (PathBuf, io::Error)> {
        let file = self.blob_path(digest);
        match std::fs::metadata(&file) {
            Ok(metadata) if metadata.is_file() => Ok(Some(Extent {
                file,
                offset: 0,
                size_bytes: metadata.len(),
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err((file, error)),
        }
    }
}
