//! What the simulated fleet does.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod bounds;
mod campaign;
mod fleet;
