//! A file that is being downloaded: its length and digest are known at every moment.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plfm_release::{Sha256Digest, Sha256Hasher};

use super::state::fail;
use super::{DiskError, Files};

/// How much is read at once while hashing what an earlier run left.
const CHUNK_BYTES: usize = 64 * 1024;

/// The bytes of `<sha256>.partial` that came so far. All its methods block.
pub(crate) struct Partial {
    files: Arc<dyn Files>,
    path: PathBuf,
    file: File,
    length: u64,
    hasher: Sha256Hasher,
}

impl Partial {
    /// Opens the partial file at `path`, with what an earlier run left in it. What is longer than `bytes_max` is no
    /// beginning of the file that is wanted, and is thrown away.
    pub(crate) fn open(files: Arc<dyn Files>, path: &Path, bytes_max: u64) -> Result<Self, DiskError> {
        let file = files.open(path).map_err(fail("open", path))?;
        let found = file.metadata().map_err(fail("examine", path))?.len();
        let mut partial = Self {
            files,
            path: path.to_owned(),
            file,
            length: 0,
            hasher: Sha256Hasher::new(),
        };
        if found > bytes_max {
            return partial.restart();
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = partial.file.read(&mut chunk).map_err(fail("read", path))?;
            if read == 0 {
                return Ok(partial);
            }
            partial.hasher.update(chunk.get(..read).unwrap_or_default());
            partial.length += read as u64;
        }
    }

    /// How many bytes there are.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Throws everything away.
    pub(crate) fn restart(mut self) -> Result<Self, DiskError> {
        let truncated = self.files.truncate(&self.file, 0);
        truncated.map_err(fail("truncate", &self.path))?;
        self.length = 0;
        self.hasher = Sha256Hasher::new();
        Ok(self)
    }

    /// Adds `bytes`.
    pub(crate) fn append(mut self, bytes: &[u8]) -> Result<Self, DiskError> {
        let appended = self.files.append(&self.file, bytes);
        appended.map_err(fail("write", &self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(self)
    }

    /// The digest of everything so far.
    pub(crate) fn digest(&self) -> Sha256Digest {
        self.hasher.clone().finish()
    }

    /// Brings the bytes to the disk and gives them their final name. The caller has checked the digest.
    pub(crate) fn finish(self, to: &Path) -> Result<(), DiskError> {
        let path = &self.path;
        self.files.sync(&self.file).map_err(fail("sync", path))?;
        self.files.rename(path, to).map_err(fail("rename", path))?;
        let dir = to.parent().unwrap_or(Path::new("."));
        self.files.sync_dir(dir).map_err(fail("sync", dir))
    }
}
