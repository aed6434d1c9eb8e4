//! The registry's keys in files.
//!
//! ```text
//! <keys>/        targets.key snapshot.key timestamp.key   where publishing and refreshing run
//!                root.json                                the root that is trusted
//! <root keys>/   root-1.key root-2.key root-3.key         offline, each in another place
//! ```

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use plfm_registry::{Lifetimes, OnlineKeys, RoleName, Signing};
use plfm_release::SigningKey;

use crate::key_file::{file_error, load_key, random_key, store_key};
use crate::output::{Category, CliError};

/// The file with the trusted root.
pub const ROOT_FILE: &str = "root.json";
/// Most root keys looked for in a directory: more people than that never meet.
pub const ROOT_KEYS_MAX: u64 = 16;
/// Longest lifetime that can be asked for, in days.
const DAYS_MAX: i64 = 3650;

/// The keys that publish, and how long what they sign is taken.
#[derive(Debug, Args)]
pub struct OnlineArgs {
    /// Directory with targets.key, snapshot.key, timestamp.key and root.json
    #[arg(long = "keys", value_name = "DIR", env = "PLFM_REGISTRY_KEYS")]
    pub keys: PathBuf,
    /// How long a root is taken
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX), hide_short_help = true)]
    root_days: i64,
    /// How long targets metadata is taken
    #[arg(long, value_name = "DAYS", default_value_t = 14, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX), hide_short_help = true)]
    targets_days: i64,
    /// How long a snapshot is taken
    #[arg(long, value_name = "DAYS", default_value_t = 14, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX), hide_short_help = true)]
    snapshot_days: i64,
    /// How long a timestamp is taken: how long a host can be shown an old registry
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX), hide_short_help = true)]
    timestamp_days: i64,
}

/// Keys and lifetimes that a change is signed with.
pub struct Signer {
    pub keys: OnlineKeys,
    pub lifetimes: Lifetimes,
    pub now: Timestamp,
}

impl Signer {
    pub fn signing(&self) -> Signing<'_> {
        Signing {
            keys: &self.keys,
            lifetimes: &self.lifetimes,
            now: self.now,
        }
    }
}

impl OnlineArgs {
    /// The keys that are there. A missing one is reported when it is needed.
    pub fn signer(&self) -> Result<Signer, CliError> {
        let load = |role| -> Result<Vec<SigningKey>, CliError> {
            Ok(load_key(&role_file(&self.keys, role))?.into_iter().collect())
        };
        Ok(Signer {
            keys: OnlineKeys {
                targets: load(RoleName::Targets)?,
                snapshot: load(RoleName::Snapshot)?,
                timestamp: load(RoleName::Timestamp)?,
            },
            lifetimes: self.lifetimes(),
            now: Timestamp::now(),
        })
    }

    fn lifetimes(&self) -> Lifetimes {
        let days = |days| SignedDuration::from_hours(24 * days);
        Lifetimes {
            root: days(self.root_days),
            targets: days(self.targets_days),
            snapshot: days(self.snapshot_days),
            timestamp: days(self.timestamp_days),
        }
    }
}

/// The offline keys.
#[derive(Debug, Args)]
pub struct RootKeyArgs {
    /// A root key's file, or a directory with root-1.key, root-2.key, …; may be given several times
    #[arg(long = "root-keys", value_name = "PATH", required = true)]
    root_keys: Vec<PathBuf>,
}

impl RootKeyArgs {
    /// Every key named.
    pub fn load(&self) -> Result<Vec<SigningKey>, CliError> {
        let mut keys = Vec::new();
        for path in &self.root_keys {
            let found = if path.is_dir() {
                load_root_keys(path)?
            } else {
                load_key(path)?.into_iter().collect()
            };
            if found.is_empty() {
                let message = format!("there is no root key at {}", path.display());
                return Err(CliError::new(Category::NotFound, "root_keys_missing", message));
            }
            keys.extend(found);
        }
        Ok(keys)
    }
}

/// The file of an online role's key.
pub fn role_file(dir: &Path, role: RoleName) -> PathBuf {
    dir.join(format!("{role}.key"))
}

/// The root keys of a directory, which may be none.
fn load_root_keys(dir: &Path) -> Result<Vec<SigningKey>, CliError> {
    let mut keys = Vec::new();
    for number in 1..=ROOT_KEYS_MAX {
        keys.extend(load_key(&root_key_file(dir, number))?);
    }
    Ok(keys)
}

fn root_key_file(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("root-{number}.key"))
}

/// The root keys of a directory; `count` of them are made where there are none.
pub fn load_or_make_root_keys(dir: &Path, count: NonZeroU64) -> Result<Vec<SigningKey>, CliError> {
    let found = load_root_keys(dir)?;
    if !found.is_empty() {
        return Ok(found);
    }
    make_dir(dir)?;
    (1..=count.get())
        .map(|number| make_key(&root_key_file(dir, number)))
        .collect()
}

/// The key of a role; it is made where there is none.
pub fn load_or_make_key(path: &Path) -> Result<SigningKey, CliError> {
    match load_key(path)? {
        Some(key) => Ok(key),
        None => make_key(path),
    }
}

fn make_key(path: &Path) -> Result<SigningKey, CliError> {
    let key = random_key()?;
    store_key(path, &key)?;
    Ok(key)
}

/// Makes a directory for keys.
pub fn make_dir(dir: &Path) -> Result<(), CliError> {
    fs::create_dir_all(dir).map_err(|error| file_error(dir, &error))
}
