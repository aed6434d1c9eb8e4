//! Behaviour of the control plane, one module per kind of fact.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod store;
mod support;
