//! Which image a name meant when it was last looked up: so that a known name starts without its registry.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};

use plfm_release::Sha256Digest;
use serde::{Deserialize, Serialize};

use crate::store::error::fail;
use crate::store::{NAMES, Store, StoreError, sync_dir};

#[derive(Serialize, Deserialize)]
struct NameRecord {
    name: String,
    image: Sha256Digest,
}

impl Store {
    /// Remembers what a name means now.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn remember(&self, name: &str, image: Sha256Digest) -> Result<(), StoreError> {
        let folder = self.root.join(NAMES);
        let path = folder.join(format!("{}.json", Sha256Digest::of(name.as_bytes())));
        let write = || {
            let bytes = serde_json::to_vec(&NameRecord {
                name: name.to_owned(),
                image,
            })?;
            let mut file = tempfile::Builder::new().prefix(".").tempfile_in(&folder)?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(io::Error::from)?;
            sync_dir(&folder)
        };
        write().map_err(fail("write", &path))
    }

    /// What a name meant.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn meaning(&self, name: &str) -> Result<Option<Sha256Digest>, StoreError> {
        let path = self
            .root
            .join(NAMES)
            .join(format!("{}.json", Sha256Digest::of(name.as_bytes())));
        match fs::read(&path) {
            Ok(bytes) => {
                let record: Option<NameRecord> = serde_json::from_slice(&bytes).ok();
                Ok(record
                    .filter(|record| record.name == name)
                    .map(|record| record.image))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fail("read", &path)(error)),
        }
    }

    /// All names, with what they mean.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn names(&self) -> Result<BTreeMap<String, Sha256Digest>, StoreError> {
        let folder = self.root.join(NAMES);
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(fail("list", &folder))? {
            let path = entry.map_err(fail("list", &folder))?.path();
            let record = fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<NameRecord>(&bytes).ok());
            names.extend(record.map(|record| (record.name, record.image)));
        }
        Ok(names)
    }

    /// Forgets a name.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be removed.
    pub fn forget(&self, name: &str) -> Result<(), StoreError> {
        let path = self
            .root
            .join(NAMES)
            .join(format!("{}.json", Sha256Digest::of(name.as_bytes())));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}
