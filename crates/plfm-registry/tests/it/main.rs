//! The publishing side from the outside, read back with `tough`'s own client; and the fetching side, against
//! repositories and servers that a test makes evil.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod attack_download;
mod attack_metadata;
mod conflict;
mod crash;
mod fault;
mod fetch_crash;
mod fetch_download;
mod fetch_fixtures;
mod fetch_properties;
mod fetch_published;
mod fetch_server;
mod fetch_update;
mod fixture;
mod gc;
mod publish;
mod reader;
mod rotate;
mod s3;
mod serve;
