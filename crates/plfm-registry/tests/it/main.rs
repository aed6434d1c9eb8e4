//! Behaviour of the registry's two sides, one module per kind of fact.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod fetch_fixtures;
mod fetch_server;
mod fetch_update;
