//! Behaviour of the chain from bytes to trust, one module per kind of fact.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod alteration;
mod chain;
mod fixtures;
mod keyring;
mod properties;
mod shape;
