//! The control plane: what the fleet boots, who may say so, and how it goes.
//!
//! ```text
//! server ──> control ──> fleet      facts ──fold──> FleetState ──decide(command)──> facts
//!  TLS,        │          pure
//!  HTTP        └───────> store      the log of facts (append-only), and what hosts report
//! ```
//!
//! Invariants: nothing changes but by a fact in the log; a decision is taken once, whichever replica takes it; the
//! generation only rises; no artifact byte passes through here.

pub mod authority;
pub mod clock;
pub mod control;
pub mod fleet;
mod init;
pub mod metrics;
mod rebuild;
mod registry;
mod serve;
pub mod server;
pub mod settings;
pub mod store;
pub mod tls;

pub use init::{InitError, Initialized, init};
pub use rebuild::{RebuildError, raise_generation, rebuild};
pub use registry::FollowError;
pub use serve::{Running, ServeError, serve};
