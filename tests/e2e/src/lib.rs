//! Tests of the whole loop: this crate has nothing but `tests/`.
