//! Root disks from images that the tests make, with nothing but this crate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests, which clippy does not know to be in one"
)]
#![allow(
    dead_code,
    reason = "what is shared with the other tests is not all used here"
)]

#[path = "../shared/corpus.rs"]
mod corpus;
#[path = "../shared/erofs_reader.rs"]
mod erofs_reader;
#[path = "../shared/facts.rs"]
mod facts;
#[path = "../shared/images.rs"]
mod images;
#[path = "../shared/sparse.rs"]
mod sparse;
#[path = "../shared/tarball.rs"]
mod tarball;

mod fake_registry;
mod layers;
mod mutation;
mod registry;
mod reproducible;
mod resolve;
mod store;
