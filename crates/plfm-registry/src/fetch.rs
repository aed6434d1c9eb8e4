//! The host's side: what the registry says, and the bytes of a release, both verified.
//!
//! ```text
//! RegistryClient --update(now)--> TrustedView --fetch_release--> FetchedRelease --> plfm_cache::Cache::stage
//!                 TUF (1.0.16, section 5)       manifest, then the pair
//!
//! <state_dir>/trusted.json           what was last trusted: replaced as a whole, by one rename
//! <state_dir>/trusted.json.new       being written
//! <state_dir>/scratch/               tough's working copy; nothing reads it after an update
//! <state_dir>/downloads/<sha256>.partial   bytes that nobody vouches for yet; resumed by range
//! <state_dir>/downloads/<sha256>     complete, verified and synced; removed when its `FetchedRelease` is dropped
//! <state_dir>/.lock                  locked by the one process that uses the directory
//! ```
//!
//! Invariants:
//! - A name without `.partial` has the digest that it is named after. A name is never made of what a server said.
//! - Never more bytes of a file are read than were signed, or than the file's kind may have (`limits`).
//! - What was trusted is a floor: versions never fall, and time never runs backwards by more than
//!   [`CLOCK_TOLERANCE`]. A crash leaves the floor before or after an update, never between.
//! - The clock, randomness and the trusted root are parameters. A server's `Date` chooses words, never trust.

mod backoff;
mod client;
mod clock;
mod disk;
mod download;
mod download_error;
mod downloads;
mod error;
mod files;
mod limits;
mod metadata;
mod mirror;
mod pace;
mod partial;
mod range;
mod release;
mod release_error;
mod settings;
mod source;
mod state;
mod tough_error;
mod update;
mod update_error;
mod view;

pub use client::{OpenError, RegistryClient};
pub use clock::CLOCK_TOLERANCE;
pub use disk::DiskError;
pub use download_error::{DownloadError, DownloadFault, FailedMirror};
pub use downloads::FetchedFile;
pub use error::ReadFault;
pub use files::{Files, HostFiles};
pub use limits::{
    ROOT_BYTES_MAX, ROOTS_PER_UPDATE_MAX, SNAPSHOT_BYTES_MAX, TARGETS_BYTES_MAX, TARGETS_MAX,
    TIMESTAMP_BYTES_MAX,
};
pub use mirror::{Mirror, MirrorError};
pub use range::{ContentRange, ContentRangeError};
pub use release::{FetchProgress, FetchRequest, FetchedRelease};
pub use release_error::FetchError;
pub use settings::{MinimumRate, Random, Settings};
pub use state::StateError;
pub use update_error::{MetadataFault, MirrorFailure, UpdateError};
pub use view::{ListedRelease, TrustedView};
