//! What the TUF client reads through: four kinds of files, each bounded, each strict JSON, each recorded.
//!
//! A file that is known already, by the digest that its signed parent announces, is not fetched again: an update that
//! finds nothing new costs two requests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use plfm_release::{Sha256Digest, parse_strict_json};
use serde_json::Value;
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use super::limits::{ROOT_BYTES_MAX, SNAPSHOT_BYTES_MAX, TARGETS_BYTES_MAX, TIMESTAMP_BYTES_MAX};
use super::source::Source;
use super::{MetadataFault, Mirror, ReadFault};
use crate::layout::METADATA_DIR;

/// The TUF roles that a repository of ours has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Root,
    Timestamp,
    Snapshot,
    Targets,
}

impl Role {
    pub(crate) fn bytes_max(self) -> u64 {
        match self {
            Self::Root => ROOT_BYTES_MAX,
            Self::Timestamp => TIMESTAMP_BYTES_MAX,
            Self::Snapshot => SNAPSHOT_BYTES_MAX,
            Self::Targets => TARGETS_BYTES_MAX,
        }
    }

    /// The role of a metadata file of a repository with consistent snapshots; none for any other name.
    fn of(name: &str) -> Option<Self> {
        if name == "timestamp.json" {
            return Some(Self::Timestamp);
        }
        let (version, kind) = name.split_once('.')?;
        version.parse::<u64>().ok()?;
        match kind {
            "root.json" => Some(Self::Root),
            "snapshot.json" => Some(Self::Snapshot),
            "targets.json" => Some(Self::Targets),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        })
    }
}

/// What passed through, for the client that looks at it afterwards.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The first thing that went wrong here; tough's errors say less.
    pub(crate) fault: Option<MetadataFault>,
    /// The files as they came, by name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The root version that the mirror did not have.
    pub(crate) root_missing: Option<u64>,
    /// The mirror's last `Date`.
    pub(crate) date: Option<Timestamp>,
}

impl Record {
    /// The text of the one file of `role` (of roots: the last).
    pub(crate) fn text(&self, role: Role) -> Option<String> {
        let (_, content) = self
            .files
            .iter()
            .filter(|(name, _)| Role::of(name) == Some(role))
            .max_by_key(|(name, _)| {
                name.split('.')
                    .next()
                    .and_then(|version| version.parse::<u64>().ok())
            })?;
        String::from_utf8(content.clone()).ok()
    }
}

/// The transport of one update from one mirror.
#[derive(Debug, Clone)]
pub(crate) struct MetadataTransport {
    pub(crate) source: Source,
    pub(crate) mirror: Mirror,
    /// Snapshot and targets as they were last trusted, by digest.
    pub(crate) known: Arc<BTreeMap<Sha256Digest, Vec<u8>>>,
    pub(crate) record: Arc<Mutex<Record>>,
}

impl MetadataTransport {
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, name: &str) -> Result<Vec<u8>, MetadataFault> {
        let Some(role) = Role::of(name) else {
            let why =
                "it names a metadata file of another layout than consistent snapshots without delegations";
            return Err(MetadataFault::Malformed {
                file: name.chars().take(80).collect(),
                why: why.to_owned(),
            });
        };
        let announced = self.announced(role);
        if let Some(content) = announced.and_then(|sha256| self.known.get(&sha256)) {
            return Ok(content.clone());
        }
        let path = format!("{METADATA_DIR}/{name}");
        let bytes_max = role.bytes_max();
        let read = self.source.read(&self.mirror, &path, bytes_max).await;
        let file = name.to_owned();
        let (content, date) = read.map_err(|fault| MetadataFault::Read {
            file: file.clone(),
            fault,
        })?;
        if date.is_some() {
            self.record().date = date;
        }
        let Some(content) = content else {
            return Err(MetadataFault::TooLarge { file, bytes_max });
        };
        if let Some(sha256) = announced
            && Sha256Digest::of(&content) != sha256
        {
            let why = format!("{file} is not the one that the metadata above it announces");
            return Err(MetadataFault::Mixed { why });
        }
        parse_strict_json(&content).map_err(|error| MetadataFault::Malformed {
            file,
            why: error.to_string(),
        })?;
        Ok(content)
    }

    /// The digest that the role's parent, which was read before it, announces for it.
    fn announced(&self, role: Role) -> Option<Sha256Digest> {
        let (parent, child) = match role {
            Role::Root | Role::Timestamp => return None,
            Role::Snapshot => (Role::Timestamp, "snapshot.json"),
            Role::Targets => (Role::Snapshot, "targets.json"),
        };
        let parent: Value = serde_json::from_str(&self.record().text(parent)?).ok()?;
        let meta = parent.get("signed")?.get("meta")?.get(child)?;
        meta.get("hashes")?.get("sha256")?.as_str()?.parse().ok()
    }
}

#[tough::async_trait]
impl Transport for MetadataTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path_segments().and_then(|mut segments| segments.next_back());
        let name = name.unwrap_or_default().to_owned();
        let fault = match self.read(&name).await {
            Ok(content) => {
                self.record().files.insert(name, content.clone());
                return Ok(Box::pin(stream::iter([Ok(Bytes::from(content))])));
            }
            Err(fault) => fault,
        };
        let root = (Role::of(&name) == Some(Role::Root)).then(|| name.split('.').next()?.parse().ok());
        if let (
            MetadataFault::Read {
                fault: ReadFault::NotThere,
                ..
            },
            Some(version),
        ) = (&fault, root)
        {
            // The end of the chain of roots.
            self.record().root_missing = version;
            return Err(TransportError::new(TransportErrorKind::FileNotFound, url));
        }
        let error = TransportError::new_with_cause(TransportErrorKind::Other, url, fault.to_string());
        self.record().fault.get_or_insert(fault);
        // Within the stream: an error beside it ends tough's walk through the roots as if there were no more.
        Ok(Box::pin(stream::iter([Err(error)])))
    }
}
