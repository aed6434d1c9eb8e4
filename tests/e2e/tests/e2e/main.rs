//! The whole loop: signed releases, a real agent, real microVMs.
//!
//! Run by `cargo xtask test`, which makes the lab and names it in `PLFM_LAB`. Without a lab every test here is
//! reported as ignored, not as passed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod api;
mod boot;
mod exec;
mod exec_frames;
mod failures;
mod guest;
mod handshake;
mod host;
mod images;
mod lab;
mod lifecycle;
mod machine;
mod network;
mod secrecy;
mod stages;
mod storage;
mod trust;
mod workload;

use libtest_mimic::{Arguments, Trial};

/// A test: its name is the fact that it shows.
type Fact = (&'static str, fn());

fn main() {
    let arguments = Arguments::from_args();
    let has_lab = lab::is_there();
    if !has_lab && !arguments.list {
        eprintln!("PLFM_LAB is not set: run these with `cargo xtask test`");
    }
    let facts: Vec<Fact> = [
        api::FACTS,
        boot::FACTS,
        exec::FACTS,
        exec_frames::FACTS,
        failures::FACTS,
        guest::FACTS,
        handshake::FACTS,
        images::FACTS,
        lifecycle::FACTS,
        network::FACTS,
        secrecy::FACTS,
        stages::FACTS,
        storage::FACTS,
        trust::FACTS,
        workload::FACTS,
    ]
    .concat();
    let trials = facts.into_iter().map(|(name, test)| {
        let needs_tap = name.starts_with("network::");
        let can_run = has_lab && (!needs_tap || lab::has_tap());
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(!can_run)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// Names a test function by its module and its own name.
#[macro_export]
macro_rules! facts {
    ($($test:ident),* $(,)?) => {
        pub const FACTS: &[$crate::Fact] = &[$((concat!(module_path!(), "::", stringify!($test)).split_at("e2e::".len()).1, $test)),*];
    };
}
