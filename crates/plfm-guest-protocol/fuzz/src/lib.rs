//! What each fuzz target checks of `plfm-guest-protocol`. Every check takes any bytes and panics if they show a bug.
//!
//! One more user has this file: the crate's own tests include it by path and replay the checked-in corpus with the
//! stable toolchain (`tests/it/corpus.rs`).

pub mod cmdline;
pub mod config;
pub mod frames;
pub mod lines;
pub mod pieces;
pub mod secrets;
pub mod sessions;

/// A target's check.
pub type Check = fn(&[u8]);

/// Every target by name, which is also the name of its directory in `corpus/`.
pub const TARGETS: [(&str, Check); 6] = [
    ("cmdline", cmdline::check),
    ("config", config::check),
    ("frames", frames::check),
    ("lines", lines::check),
    ("secrets", secrets::check),
    ("sessions", sessions::check),
];
