//! Customers' images on this host: brought once, made into disks that all their instances share.
//!
//! ```text
//! name --pull: one task for a name and policy--> obtain: known? fetch, build --> StoredImage
//!                                                                                    |
//!                      instances hold it until their VM is gone; collect removes <---+
//! ```
//!
//! Invariants: what an instance runs from is never removed; a customer's image that is no good is refused before there
//! is an instance, so it never counts against a release; nothing of an image becomes a name on the host.

mod collect;
mod obtain;
mod pull;
mod refusal;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use plfm_api::PullPolicy;
use plfm_rootdisk::registry::{Puller, RegistryOptions};
use plfm_rootdisk::{Limits, Store, StoredImage};
use tokio::sync::{Semaphore, watch};

use crate::settings::Settings;

pub use pull::PullState;
pub use refusal::workload_error;

/// Pulls at once, those that wait for their turn among them.
const PULLS_MAX: usize = 64;
/// Pulls that speak to a registry at once: more would share the same link.
const FETCHES_MAX: usize = 8;
/// Disks that are made at once: each takes a processor, up to 512 MiB for names, and room for the unpacked image twice.
const BUILDS_MAX: usize = 2;
const GIB: u64 = 1 << 30;

/// The images of this host.
pub struct Images {
    store: Store,
    puller: Puller,
    limits: Limits,
    /// Bytes of all disks, at most.
    store_bytes_max: u64,
    /// Docker's configuration with the registries' credentials; read at each pull.
    credentials: PathBuf,
    under_way: Mutex<BTreeMap<(String, PullPolicy), watch::Receiver<PullState>>>,
    fetches: Semaphore,
    builds: Arc<Semaphore>,
    /// Held while it is decided what goes, and it goes.
    collecting: Mutex<()>,
}

/// An image that is on this host, for as long as this lives.
#[derive(Debug, Clone)]
pub struct Obtained {
    /// What was asked for, as complete as it can be said.
    pub name: String,
    /// Its disk.
    pub image: Arc<StoredImage>,
    /// Whether the disk was made just now.
    pub built: bool,
}

impl Images {
    /// Opens the store. Blocking.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let dir = settings.images_dir();
        let store =
            Store::open(&dir).with_context(|| format!("cannot use the image store {}", dir.display()))?;
        let store_bytes_max = settings.image_store_gib.saturating_mul(GIB);
        let limits = Limits::default();
        let limits = Limits {
            compressed_bytes_max: limits.compressed_bytes_max.min(store_bytes_max),
            ..limits
        };
        let options = RegistryOptions {
            plaintext_registries: settings.image_plaintext.clone(),
            ..RegistryOptions::default()
        };
        let puller =
            Puller::new(&store, options, limits.clone()).context("cannot speak to registries of images")?;
        Ok(Self {
            store,
            puller,
            limits,
            store_bytes_max,
            credentials: settings.image_credentials.clone(),
            under_way: Mutex::default(),
            fetches: Semaphore::new(FETCHES_MAX),
            builds: Arc::new(Semaphore::new(BUILDS_MAX)),
            collecting: Mutex::default(),
        })
    }

    fn under_way(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<(String, PullPolicy), watch::Receiver<PullState>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
