//! Where a repository's files are: a directory, or a bucket of S3, GCS or Azure, or whatever else is an object store.
//!
//! Invariant: one name, `metadata/timestamp.json`, is ever replaced, and only by whoever saw its latest content: by a
//! conditional put where the store has it, under an exclusive lock on a directory. A put is whole or not there; on a
//! directory it is written beside its place, synced, renamed, and the directory synced.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, PutMode, UpdateVersion};
use url::Url;

/// Most names that a listing reads: a repository at its limits, with everything that waits for `gc`.
pub const LISTED_MAX: usize = 100_000;
/// Name of the file that a directory's writers lock. Readers never see it.
const LOCK_FILE: &str = ".lock";

/// Why the files could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address names no store that this program can use.
    #[error("{url:?} is no registry's address: {why}")]
    BadUrl {
        /// What was given.
        url: String,
        /// Why not.
        why: String,
    },
    /// The directory can't be used.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else writes.
    #[error("another publisher is at work on {store}")]
    Conflict {
        /// The store.
        store: String,
    },
    /// The store has neither conditional put nor a lock.
    #[error("{store} has no conditional put, so two publishers could undo each other's work")]
    Unsafe {
        /// The store.
        store: String,
        /// What it said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// A file is longer than any real one.
    #[error("{name} has {found} bytes; at most {limit} are read")]
    TooLong {
        /// The file.
        name: String,
        /// Its length, in bytes.
        found: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// More files than any real repository has.
    #[error("{directory}/ has more than {LISTED_MAX} files")]
    TooMany {
        /// The directory.
        directory: String,
    },
    /// The store refused or could not be reached.
    #[error("{store}: {name} cannot be {done}")]
    Access {
        /// The store.
        store: String,
        /// The file.
        name: String,
        /// What could not be done to it.
        done: &'static str,
        /// Why.
        #[source]
        source: Box<object_store::Error>,
    },
}

impl StoreError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "registry_url_invalid",
            Self::Directory { source, .. } if source.kind() == io::ErrorKind::NotFound => "registry_missing",
            Self::Directory { .. } => "registry_directory_unusable",
            Self::Conflict { .. } => "registry_conflict",
            Self::Unsafe { .. } => "registry_store_unsafe",
            Self::TooLong { .. } | Self::TooMany { .. } => "registry_too_large",
            Self::Access { .. } => "registry_store_failed",
        }
    }
}

/// The files of one repository.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    directory: Option<PathBuf>,
    name: String,
}

/// That nobody else writes, until it is dropped. On a store with conditional put it says nothing: there the put of
/// `timestamp.json` finds out.
#[derive(Debug)]
#[must_use]
pub struct WriteLock(Option<File>);

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Which content, for [`Store::replace`].
    pub version: UpdateVersion,
}

/// A file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, with its directory.
    pub name: String,
    /// Its length, in bytes.
    pub size_bytes: u64,
    /// When it was put there, by the store's clock.
    pub modified: Timestamp,
}

/// What came of a put that must not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was put.
    New,
    /// Something was there and still is.
    Exists,
}

impl Store {
    /// The repository at `url`: a path, `file://`, `s3://bucket/prefix`, `gs://…`, `az://…`. `environment` holds the
    /// store's own settings under their usual names (`AWS_ACCESS_KEY_ID`, `GOOGLE_SERVICE_ACCOUNT`, …).
    ///
    /// # Errors
    /// [`StoreError`] when it is no such address, or a directory that is not there.
    pub fn open(
        url: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, StoreError> {
        let bad = |why: String| StoreError::BadUrl {
            url: url.to_owned(),
            why,
        };
        if !url.contains("://") {
            return Self::open_dir(url.into());
        }
        let parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        let (scheme, prefix) = ObjectStoreScheme::parse(&parsed).map_err(|error| bad(error.to_string()))?;
        match scheme {
            ObjectStoreScheme::Local => {
                let path = parsed
                    .to_file_path()
                    .map_err(|()| bad("not a path of this machine".to_owned()))?;
                Self::open_dir(path)
            }
            ObjectStoreScheme::AmazonS3
            | ObjectStoreScheme::GoogleCloudStorage
            | ObjectStoreScheme::MicrosoftAzure => {
                let (objects, _) = object_store::parse_url_opts(&parsed, environment)
                    .map_err(|error| bad(error.to_string()))?;
                Ok(Self {
                    objects: objects.into(),
                    prefix,
                    directory: None,
                    name: url.to_owned(),
                })
            }
            _ => Err(bad("pass a directory, file://, s3://, gs:// or az://".to_owned())),
        }
    }

    fn open_dir(path: PathBuf) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Directory {
            path: path.clone(),
            source,
        };
        let directory = fs::canonicalize(&path).map_err(unusable)?;
        let objects = LocalFileSystem::new_with_prefix(&directory)
            .map_err(|error| unusable(io::Error::other(error)))?
            .with_fsync(true);
        Ok(Self {
            objects: Arc::new(objects),
            prefix: Path::default(),
            name: path.display().to_string(),
            directory: Some(directory),
        })
    }

    /// The repository in `objects`, a store with conditional put.
    pub fn on(objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            name: objects.to_string(),
            objects,
            prefix: Path::default(),
            directory: None,
        }
    }

    /// Its address, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Holds off other writers.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is one: nobody waits, since what it publishes changes what is to be done.
    pub fn lock(&self) -> Result<WriteLock, StoreError> {
        let Some(directory) = &self.directory else {
            return Ok(WriteLock(None));
        };
        let unusable = |source| StoreError::Directory {
            path: directory.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(LOCK_FILE))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(WriteLock(Some(file))),
            Err(TryLockError::WouldBlock) => Err(self.conflict()),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// That somebody else was faster.
    pub(crate) fn conflict(&self) -> StoreError {
        StoreError::Conflict {
            store: self.name.clone(),
        }
    }

    /// Reads a file of at most `limit` bytes; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`] when it is longer or can't be read.
    pub async fn get(&self, name: &str, limit: u64) -> Result<Option<Object>, StoreError> {
        let failed = |source| self.failed(name, "read", source);
        let result = match self.objects.get(&self.path(name)).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let found = result.meta.size;
        if found > limit {
            let name = name.to_owned();
            return Err(StoreError::TooLong { name, found, limit });
        }
        let version = UpdateVersion {
            e_tag: result.meta.e_tag.clone(),
            version: result.meta.version.clone(),
        };
        let bytes = result.bytes().await.map_err(failed)?.to_vec();
        Ok(Some(Object { bytes, version }))
    }

    /// Puts a file where there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the store can't do that, or failed.
    pub async fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        match self.put_mode(name, bytes, PutMode::Create).await {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::Exists)
            }
            Err(error) => Err(self.failed(name, "written", error)),
        }
    }

    /// Puts a file whether or not there is one: for content whose name is its digest.
    ///
    /// # Errors
    /// [`StoreError`] when the store failed.
    pub async fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_mode(name, bytes, PutMode::Overwrite)
            .await
            .map(drop)
            .map_err(|error| self.failed(name, "written", error))
    }

    /// Replaces a file whose content is still `old`. On a directory the caller's `lock` stands for that.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it has other content by now.
    ///
    /// Returns which content it has now.
    pub async fn replace(
        &self,
        name: &str,
        bytes: &[u8],
        old: UpdateVersion,
        lock: &WriteLock,
    ) -> Result<UpdateVersion, StoreError> {
        let mode = match lock {
            WriteLock(Some(_)) => PutMode::Overwrite,
            WriteLock(None) => PutMode::Update(old),
        };
        match self.put_mode(name, bytes, mode).await {
            Ok(version) => Ok(version),
            Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => {
                // A put that was answered too late is sent again, and then it is our own content that is in the way.
                let limit = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                match self.get(name, limit).await {
                    Ok(Some(object)) if object.bytes == bytes => Ok(object.version),
                    _ => Err(self.conflict()),
                }
            }
            Err(error) => Err(self.failed(name, "replaced", error)),
        }
    }

    async fn put_mode(&self, name: &str, bytes: &[u8], mode: PutMode) -> object_store::Result<UpdateVersion> {
        self.objects
            .put_opts(&self.path(name), bytes.to_vec().into(), mode.into())
            .await
            .map(UpdateVersion::from)
    }

    /// Every file of a directory.
    ///
    /// # Errors
    /// [`StoreError`] when there are more than [`LISTED_MAX`], or the store failed.
    pub async fn list(&self, directory: &str) -> Result<Vec<Listed>, StoreError> {
        let prefix = self.path(directory);
        let listing = self.objects.list(Some(&prefix)).take(LISTED_MAX + 1);
        let metas: Vec<_> = listing
            .try_collect()
            .await
            .map_err(|error| self.failed(directory, "listed", error))?;
        if metas.len() > LISTED_MAX {
            let directory = directory.to_owned();
            return Err(StoreError::TooMany { directory });
        }
        let listed = metas.into_iter().filter_map(|meta| {
            Some(Listed {
                name: format!("{directory}/{}", meta.location.filename()?),
                size_bytes: meta.size,
                modified: Timestamp::from_second(meta.last_modified.timestamp()).ok()?,
            })
        });
        Ok(listed.collect())
    }

    /// What a listing would say of one file; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the store failed.
    pub async fn head(&self, name: &str) -> Result<Option<Listed>, StoreError> {
        match self.objects.head(&self.path(name)).await {
            Ok(meta) => Ok(Some(Listed {
                name: name.to_owned(),
                size_bytes: meta.size,
                modified: Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or(Timestamp::MAX),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(name, "read", error)),
        }
    }

    /// Removes a file. One that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError`] when the store failed.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(name, "removed", error)),
        }
    }

    fn path(&self, name: &str) -> Path {
        name.split('/')
            .fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn failed(&self, name: &str, done: &'static str, source: object_store::Error) -> StoreError {
        let store = self.name.clone();
        match source {
            object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
                StoreError::Unsafe {
                    store,
                    source: Box::new(source),
                }
            }
            source => StoreError::Access {
                store,
                name: name.to_owned(),
                done,
                source: Box::new(source),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str) -> Result<Store, StoreError> {
        Store::open(url, [])
    }

    #[test]
    fn addresses_of_unknown_kinds_are_refused() {
        for url in [
            "http://example.com/x",
            "ftp://example.com/x",
            "memory:///",
            "file://host/x",
            "s3://",
        ] {
            assert_eq!(open(url).unwrap_err().code(), "registry_url_invalid", "{url}");
        }
        assert_eq!(open("/nowhere/at/all").unwrap_err().code(), "registry_missing");
    }

    #[test]
    fn a_directory_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        let (one, two) = (open(&url).unwrap(), open(dir.path().to_str().unwrap()).unwrap());
        let lock = one.lock().unwrap();
        assert_eq!(two.lock().unwrap_err().code(), "registry_conflict");
        drop(lock);
        assert!(two.lock().is_ok());
    }

    #[tokio::test]
    async fn a_directory_without_its_lock_is_no_safe_store() {
        let dir = tempfile::tempdir().unwrap();
        let objects = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
        let store = Store::on(Arc::new(objects));
        let lock = store.lock().unwrap();
        store.create("metadata/timestamp.json", b"1").await.unwrap();
        let old = store.get("metadata/timestamp.json", 9).await.unwrap().unwrap();
        let error = store
            .replace("metadata/timestamp.json", b"2", old.version, &lock)
            .await
            .unwrap_err();
        assert_eq!(error.code(), "registry_store_unsafe");
    }

    #[tokio::test]
    async fn a_long_file_is_refused_unread() {
        let store = Store::on(Arc::new(object_store::memory::InMemory::new()));
        store.create("metadata/x", b"12345").await.unwrap();
        assert_eq!(
            store.get("metadata/x", 4).await.unwrap_err().code(),
            "registry_too_large"
        );
        assert_eq!(store.get("metadata/x", 5).await.unwrap().unwrap().bytes, b"12345");
        assert_eq!(
            store.create("metadata/x", b"other").await.unwrap(),
            Created::Exists
        );
    }
}
