//! What tests start and use.

pub mod postgres;
