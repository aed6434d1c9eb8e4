//! Both ends of the protocol, talking to each other and to noise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod config;
mod corpus;
mod document;
mod generated;
mod machines;
mod reports;
mod sessions;
mod text;
