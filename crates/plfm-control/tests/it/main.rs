//! Behaviour of the control plane, one module per kind of fact.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod api;
mod certificates;
mod crash;
mod hosts;
mod plane;
mod program;
mod refusals;
mod registry;
mod repeats;
mod replicas;
mod rollouts;
mod serving;
mod slow;
mod store;
mod support;
mod wire;
