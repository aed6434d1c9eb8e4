//! How much of each kind of metadata is read, whatever a server or a signed length says.

/// Largest root metadata, in bytes. A root with ten keys and three roles has less than 5 KiB.
pub const ROOT_BYTES_MAX: u64 = 64 * 1024;
/// Largest timestamp metadata, in bytes. One entry and a signature have less than 1 KiB.
pub const TIMESTAMP_BYTES_MAX: u64 = 16 * 1024;
/// Largest snapshot metadata, in bytes. It lists one file here.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 * 1024;
/// Largest targets metadata, in bytes: [`TARGETS_MAX`] entries of about 250 bytes, and as much again.
pub const TARGETS_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most targets in a repository: about 3,000 releases of five files.
pub const TARGETS_MAX: usize = 16 * 1024;
/// Most roots that one update walks through. A root changes a few times a year; a host that is further behind goes
/// on with the next update.
pub const ROOTS_PER_UPDATE_MAX: u64 = 256;
/// Largest state file, in bytes: every kind of metadata at its limit, twice for the escapes of JSON strings.
pub(crate) const STATE_BYTES_MAX: u64 = 24 * 1024 * 1024;
/// How many unfinished downloads of earlier runs are kept for resuming.
pub(crate) const PARTIALS_KEPT_MAX: usize = 4;
