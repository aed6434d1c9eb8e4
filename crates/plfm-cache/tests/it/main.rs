//! Behaviour of the cache on a real directory, one module per kind of fact.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod crash;
mod current;
mod faults;
mod fixtures;
mod gc;
mod install;
mod invariants;
mod kill;
mod properties;
mod refusal;
mod repair;
mod scenario;
mod scrub;
mod test_disk;
mod unchanged;
mod verify_at_use;
