//! The repository that releases are published to and fetched from: TUF metadata and content-addressed files on an
//! object store, readable through any static web server.
//!
//! ```text
//! metadata/<n>.root.json       root of trust, threshold of offline keys
//! metadata/timestamp.json      the one name that is overwritten; what makes a change visible
//! metadata/<n>.snapshot.json   metadata/<n>.targets.json
//! targets/<sha256>.<name>      every file of every release ("consistent snapshots")
//! ```
//!
//! Publishing: [`init`](init::init) makes a repository, [`Repository`] opens and changes one, [`serve`] shows one.
//! Fetching: [`fetch::RegistryClient`].
//! Time, randomness and environment are parameters.

#[cfg(feature = "fetch")]
pub mod fetch;
pub mod layout;

#[cfg(feature = "publish")]
pub mod commit;
#[cfg(feature = "publish")]
pub mod error;
#[cfg(feature = "publish")]
pub mod gc;
#[cfg(feature = "publish")]
pub mod init;
#[cfg(feature = "publish")]
pub mod keyring;
#[cfg(feature = "publish")]
pub mod publish;
#[cfg(feature = "publish")]
pub mod refresh;
#[cfg(feature = "publish")]
pub mod releases;
#[cfg(feature = "publish")]
pub mod repository;
#[cfg(feature = "publish")]
pub mod role;
#[cfg(feature = "publish")]
pub mod rotate;
#[cfg(feature = "publish")]
pub mod serve;
#[cfg(feature = "publish")]
pub mod store;

#[cfg(feature = "publish")]
pub use commit::Signing;
#[cfg(feature = "publish")]
pub use error::RegistryError;
#[cfg(feature = "publish")]
pub use repository::Repository;
#[cfg(feature = "publish")]
pub use role::{Lifetimes, OnlineKeys, RoleName, role_public_keys};
#[cfg(feature = "publish")]
pub use store::{Store, StoreError};
