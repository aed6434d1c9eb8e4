//! The control plane.

pub mod authority;
pub mod tls;
