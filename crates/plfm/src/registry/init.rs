//! `plfm registry init`.

use std::fs;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;
use plfm_registry::init::{ROOT_KEYS_DEFAULT, ROOT_THRESHOLD_DEFAULT, first_root, init};
use plfm_registry::{OnlineKeys, RoleName};
use plfm_release::{KeyId, Keyring};
use serde::Serialize;

use super::keys::{ROOT_FILE, ROOT_KEYS_MAX, load_or_make_key, load_or_make_root_keys, make_dir, role_file};
use super::{Address, OnlineArgs, block_on, refusal};
use crate::key_file::create;
use crate::output::{Category, CliError, Output, render_fields};
use crate::release::keyring_file;

const PUBLIC_MODE: u32 = 0o644;

/// Arguments of `plfm registry init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    online: OnlineArgs,
    /// Directory for the root keys, to be taken offline; keys that are there are used
    #[arg(long, value_name = "DIR")]
    root_keys: PathBuf,
    /// How many root keys are made
    #[arg(long, value_name = "N", default_value_t = ROOT_KEYS_DEFAULT, value_parser = clap::value_parser!(u64).range(1..=ROOT_KEYS_MAX))]
    root_key_count: u64,
    /// How many root keys have to sign
    #[arg(long, value_name = "N", default_value_t = ROOT_THRESHOLD_DEFAULT)]
    threshold: NonZeroU64,
    /// Release keys that hosts shall trust from the beginning
    #[arg(long, value_name = "FILE", env = "PLFM_KEYRING")]
    keyring: Option<PathBuf>,
}

/// What `plfm registry init` prints.
#[derive(Debug, Serialize)]
struct InitReport {
    registry: String,
    root: PathBuf,
    root_keys: PathBuf,
    root_key_ids: Vec<KeyId>,
    threshold: NonZeroU64,
    keys: PathBuf,
    release_keys: usize,
}

impl InitArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let keyring = match &self.keyring {
            Some(path) => keyring_file::load(path)?,
            None => Keyring::default(),
        };
        self.make_registry_dir()?;
        let store = self.address.store()?;
        let dir = &self.online.keys;
        make_dir(dir)?;
        let count = NonZeroU64::new(self.root_key_count).unwrap_or(NonZeroU64::MIN);
        let root_keys = load_or_make_root_keys(&self.root_keys, count)?;
        let mut signer = self.online.signer()?;
        let online = |role| load_or_make_key(&role_file(dir, role)).map(|key| vec![key]);
        signer.keys = OnlineKeys {
            targets: online(RoleName::Targets)?,
            snapshot: online(RoleName::Snapshot)?,
            timestamp: online(RoleName::Timestamp)?,
        };
        // Kept before it is published, so that an init that was cut off goes on with the same one.
        let path = dir.join(ROOT_FILE);
        let root = match fs::read(&path) {
            Ok(root) => root,
            Err(_) => {
                let root = first_root(
                    &root_keys,
                    self.threshold,
                    &signer.keys,
                    &signer.lifetimes,
                    signer.now,
                )
                .map_err(refusal)?;
                create(&path, PUBLIC_MODE, &root)?;
                root
            }
        };
        block_on(async {
            init(store, &root, &root_keys, &keyring, &signer.signing())
                .await
                .map_err(refusal)
        })?;
        let report = InitReport {
            registry: self.address.url().to_owned(),
            root: path,
            root_keys: self.root_keys,
            root_key_ids: root_keys.iter().map(|key| key.public_key().id()).collect(),
            threshold: self.threshold,
            keys: self.online.keys,
            release_keys: keyring.keys().len(),
        };
        out.result(&report, render)
    }

    /// A registry in a directory begins with the directory.
    fn make_registry_dir(&self) -> Result<(), CliError> {
        let url = self.address.url();
        let path = url.strip_prefix("file://").unwrap_or(url);
        if path.contains("://") {
            return Ok(());
        }
        fs::create_dir_all(path).map_err(|error| {
            let message = format!("cannot make the directory {path}: {error}");
            CliError::new(Category::Failure, "registry_directory_unusable", message)
        })
    }
}

fn render(report: &InitReport) -> String {
    let fields = [
        (
            "root",
            format!("{}; bring it to every host", report.root.display()),
        ),
        (
            "root keys",
            format!(
                "{} in {}, {} have to sign; take each to another safe place, and away from here",
                report.root_key_ids.len(),
                report.root_keys.display(),
                report.threshold
            ),
        ),
        (
            "keys",
            format!("{} (targets, snapshot, timestamp)", report.keys.display()),
        ),
        (
            "release keys",
            match report.release_keys {
                0 => "none; trust one with `plfm registry trust KEY.pub.pem`".to_owned(),
                count => count.to_string(),
            },
        ),
        (
            "next",
            "`plfm registry refresh` daily: the timestamp ends in a week".to_owned(),
        ),
    ];
    format!("registry {}\n{}", report.registry, render_fields(&fields))
}
