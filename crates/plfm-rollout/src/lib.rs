//! Pure decisions about releases. The caller gathers the facts and carries the decision out.
//!
//! | | decides |
//! |---|---|
//! | [`selection`] | what a new instance boots |
//! | [`window`] | whether releases may be fetched now, and if not, from when on |
//! | [`retention`] | which releases a host keeps |
//! | [`rollout`] | how far a new release goes, and when it is taken back |
//! | [`interval`] | how sure a counted rate is, for whoever shows one |
//!
//! Invariant: no I/O, no clock, no randomness. Whatever time matters is among the facts; the rules of time zones are
//! compiled in.

pub mod interval;
pub mod retention;
pub mod rollout;
pub mod selection;
pub mod window;
