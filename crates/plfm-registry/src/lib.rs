//! The repository that releases are published to and fetched from: TUF metadata and content-addressed files on an
//! object store, readable through any static web server.
//!
//! ```text
//! metadata/<n>.root.json       root of trust, threshold of offline keys
//! metadata/timestamp.json      the one name that is overwritten; what makes a change visible
//! metadata/<n>.snapshot.json   metadata/<n>.targets.json
//! targets/<sha256>.<name>      every file of every release ("consistent snapshots")
//! ```

pub mod fetch;
pub mod layout;
