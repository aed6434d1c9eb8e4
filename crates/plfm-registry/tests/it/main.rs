//! The registry's two sides from the outside: publishing is read back with `tough`'s own client, fetching is tried against
//! servers that lie.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod conflict;
mod crash;
mod fault;
mod fetch_fixtures;
mod fetch_server;
mod fetch_update;
mod fixture;
mod gc;
mod publish;
mod reader;
mod rotate;
mod s3;
mod serve;
