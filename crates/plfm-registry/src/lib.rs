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
//! Fetching: [`fetch`]. Time, randomness and environment are parameters.

pub mod commit;
pub mod error;
pub mod fetch;
pub mod gc;
pub mod init;
pub mod keyring;
pub mod layout;
pub mod publish;
pub mod refresh;
pub mod releases;
pub mod repository;
pub mod role;
pub mod rotate;
pub mod serve;
pub mod store;

pub use commit::Signing;
pub use error::RegistryError;
pub use repository::Repository;
pub use role::{Lifetimes, OnlineKeys, RoleName, role_public_keys};
pub use store::{Store, StoreError};
