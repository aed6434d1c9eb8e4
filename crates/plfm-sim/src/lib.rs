//! A fleet of simulated hosts that the real rules for rollouts are tried on.
//!
//! ```text
//! scenario ──> world: launches ──> reports, late, lost, false ──> judge: plfm_rollout::rollout::decide, or a rival
//!                ^                                                  │
//!                └───────────── what hosts are told, after a while ─┘
//! ```
//!
//! Invariant: the same seed gives the same numbers. Chance comes from one generator with a fixed algorithm.

pub mod bound;
pub mod campaign;
pub mod cell;
pub mod chance;
pub mod fleet;
pub mod interval;
pub mod judge;
pub mod plot;
pub mod rival;
pub mod scenario;
pub mod table;
pub mod world;
