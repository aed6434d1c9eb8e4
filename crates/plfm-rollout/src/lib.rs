//! Pure decisions about releases. The caller gathers the facts and carries the decision out.
//!
//! Invariant: no I/O, no clock, no randomness. Whatever time matters is among the facts.

pub mod retention;
pub mod rollout;
