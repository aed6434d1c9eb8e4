//! One blob: into a file that the next try goes on with, verified when it is whole.

use std::io::{self, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plfm_release::{Sha256Digest, Sha256Hasher};
use reqwest::StatusCode;
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use crate::oci::Descriptor;
use crate::registry::Fetched;
use crate::registry::client::Client;
use crate::registry::error::FetchError;
use crate::source::BlobDirectory;
use crate::store::is_same;

/// The first wait between two tries; each next one is twice as long.
const WAIT_MS: u64 = 200;
/// The longest wait between two tries.
const WAIT_MS_MAX: u64 = 5_000;

/// How often a part may be renamed by another pull before this one gives up.
const OPENS_MAX: u32 = 10;

/// A blob to be fetched.
pub(super) struct Download<'a> {
    pub blobs: &'a BlobDirectory,
    pub descriptor: &'a Descriptor,
    pub layer: usize,
    pub layers: usize,
    pub tries_max: u32,
}

/// What is here of a blob.
struct Partial {
    path: PathBuf,
    file: File,
    bytes: u64,
    hasher: Sha256Hasher,
}

/// Keeps a document whose bytes were verified.
pub(super) fn keep(blobs: &BlobDirectory, digest: Sha256Digest, bytes: &[u8]) -> Result<(), FetchError> {
    let path = blobs.blob_path(digest);
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(blobs.path()))?;
        file.write_all(bytes)?;
        file.persist(&path).map_err(io::Error::from)
    };
    write().map(drop).map_err(write_error(&path))
}

impl Download<'_> {
    /// Fetches the blob, unless it is here.
    pub(super) async fn run(
        &self,
        client: &mut Client<'_>,
        on_progress: &mut (dyn FnMut(Fetched) + Send),
    ) -> Result<(), FetchError> {
        let path = self.blobs.blob_path(self.descriptor.digest);
        let partial = if self.is_there(&path).await {
            None
        } else {
            self.open_partial(&path).await?
        };
        let Some(mut partial) = partial else {
            on_progress(self.fetched(self.descriptor.size_bytes, 0));
            return Ok(());
        };
        let mut wait_ms = WAIT_MS;
        let mut tries = 0;
        loop {
            let before = partial.bytes;
            let error = match self.attempt(client, &mut partial, on_progress).await {
                Ok(()) => break,
                Err(error) => error,
            };
            // A try that brought something is none that failed: a slow link may take many.
            tries = if partial.bytes > before { 1 } else { tries + 1 };
            if !error.is_retryable() || tries >= self.tries_max {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = wait_ms.saturating_mul(2).min(WAIT_MS_MAX);
        }
        self.install(client, partial, &path).await
    }

    fn fetched(&self, bytes: u64, arrived: u64) -> Fetched {
        Fetched {
            blob: self.descriptor.digest,
            bytes,
            arrived,
            size_bytes: self.descriptor.size_bytes,
            layer: self.layer,
            layers: self.layers,
        }
    }

    /// What an earlier pull left, read once for its digest; nothing if another pull has just fetched it all.
    async fn open_partial(&self, whole: &Path) -> Result<Option<Partial>, FetchError> {
        let path = part_path(self.blobs, self.descriptor.digest);
        for _ in 0..OPENS_MAX {
            let file = open_locked(path.clone()).await.map_err(write_error(&path))?;
            if self.is_there(whole).await {
                return Ok(None);
            }
            if let Some(file) = file {
                return self
                    .read_partial(path.clone(), file)
                    .await
                    .map(Some)
                    .map_err(write_error(&path));
            }
        }
        Err(write_error(&path)(io::ErrorKind::ResourceBusy.into()))
    }

    async fn is_there(&self, path: &Path) -> bool {
        fs::metadata(path)
            .await
            .is_ok_and(|metadata| metadata.len() == self.descriptor.size_bytes)
    }

    async fn read_partial(&self, path: PathBuf, mut file: File) -> io::Result<Partial> {
        let mut hasher = Sha256Hasher::new();
        let mut bytes = 0u64;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = file.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
            bytes = bytes.saturating_add(count as u64);
        }
        let mut partial = Partial {
            path,
            file,
            bytes,
            hasher,
        };
        if bytes > self.descriptor.size_bytes {
            partial.restart().await?;
        }
        Ok(partial)
    }

    async fn attempt(
        &self,
        client: &mut Client<'_>,
        partial: &mut Partial,
        on_progress: &mut (dyn FnMut(Fetched) + Send),
    ) -> Result<(), FetchError> {
        let registry = client.registry().to_owned();
        if partial.bytes == self.descriptor.size_bytes {
            on_progress(self.fetched(partial.bytes, 0));
            return Ok(());
        }
        let mut response = client.blob(self.descriptor.digest, partial.bytes).await?;
        // A registry that cannot begin in the middle begins at the start.
        if response.status() != StatusCode::PARTIAL_CONTENT || !begins_at(&response, partial.bytes) {
            partial.restart().await.map_err(write_error(&partial.path))?;
            if response.status() != StatusCode::OK {
                response = client.blob(self.descriptor.digest, 0).await?;
            }
        }
        loop {
            let chunk = response
                .chunk()
                .await
                .map_err(|source| FetchError::request(&registry, source))?;
            let Some(chunk) = chunk else { break };
            if partial.bytes.saturating_add(chunk.len() as u64) > self.descriptor.size_bytes {
                partial.restart().await.map_err(write_error(&partial.path))?;
                return Err(FetchError::Blob {
                    registry,
                    blob: self.descriptor.digest,
                });
            }
            partial.append(&chunk).await?;
            on_progress(self.fetched(partial.bytes, chunk.len() as u64));
        }
        if partial.bytes < self.descriptor.size_bytes {
            // The connection ended in good order, and early.
            return Err(FetchError::Timeout {
                registry,
                what: format!("sha256:{}", self.descriptor.digest),
            });
        }
        Ok(())
    }

    async fn install(
        &self,
        client: &Client<'_>,
        mut partial: Partial,
        path: &Path,
    ) -> Result<(), FetchError> {
        let found = std::mem::take(&mut partial.hasher).finish();
        if found != self.descriptor.digest {
            let _ = fs::remove_file(&partial.path).await;
            return Err(FetchError::Blob {
                registry: client.registry().to_owned(),
                blob: self.descriptor.digest,
            });
        }
        partial.file.flush().await.map_err(write_error(&partial.path))?;
        fs::rename(&partial.path, path).await.map_err(write_error(path))
    }
}

impl Partial {
    async fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file
            .write_all(bytes)
            .await
            .map_err(write_error(&self.path))?;
        self.hasher.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0).await?;
        self.file.seek(SeekFrom::Start(0)).await?;
        self.bytes = 0;
        self.hasher = Sha256Hasher::new();
        Ok(())
    }
}

/// Opens a file that one pull at a time writes; nothing if it was renamed while this waited for it.
async fn open_locked(path: PathBuf) -> io::Result<Option<File>> {
    let open = move || {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        file.lock()?;
        Ok(is_same(&file, &path).then_some(file))
    };
    let file: io::Result<Option<std::fs::File>> = tokio::task::spawn_blocking(open)
        .await
        .map_err(io::Error::other)?;
    Ok(file?.map(File::from_std))
}

fn begins_at(response: &reqwest::Response, offset: u64) -> bool {
    let range = response
        .headers()
        .get(reqwest::header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let start = range
        .and_then(|text| text.strip_prefix("bytes "))
        .and_then(|text| text.split('-').next());
    start.and_then(|text| text.trim().parse().ok()) == Some(offset)
}

fn part_path(blobs: &BlobDirectory, digest: Sha256Digest) -> PathBuf {
    blobs.blob_path(digest).with_extension("part")
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Write { path, source }
}
