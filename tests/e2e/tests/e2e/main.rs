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
mod bucket;
mod ceremonies;
mod clauses;
mod control_plane;
mod delivery;
mod exec;
mod exec_frames;
mod failures;
mod faults;
mod fleet;
mod guest;
mod handshake;
mod host;
mod images;
mod images_oci;
mod lab;
mod layout;
mod lifecycle;
mod listener;
mod machine;
mod mirrors;
mod network;
mod patience;
mod publisher;
mod registry;
mod rollouts;
mod secrecy;
mod software;
mod stages;
mod stand_in;
mod storage;
mod trust;
mod walk;
mod workload;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::clauses::Shown;

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
        bucket::FACTS,
        ceremonies::FACTS,
        clauses::FACTS,
        delivery::FACTS,
        exec::FACTS,
        exec_frames::FACTS,
        failures::FACTS,
        faults::FACTS,
        fleet::FACTS,
        guest::FACTS,
        handshake::FACTS,
        images::FACTS,
        images_oci::FACTS,
        lifecycle::FACTS,
        mirrors::FACTS,
        network::FACTS,
        patience::FACTS,
        rollouts::FACTS,
        secrecy::FACTS,
        software::FACTS,
        stages::FACTS,
        stand_in::FACTS,
        storage::FACTS,
        trust::FACTS,
        walk::FACTS,
        workload::FACTS,
    ]
    .concat();
    let unknown = clauses::missing(facts.iter().map(|(name, _)| *name));
    assert!(
        unknown.is_empty(),
        "clauses name facts that there are not: {unknown:?}"
    );
    let results = Arc::new(Mutex::new(BTreeMap::new()));
    let trials = facts.into_iter().map(|(name, test)| {
        let can_run = has_lab && has_what_it_needs(name);
        let results = Arc::clone(&results);
        Trial::test(name, move || {
            let ended = std::panic::catch_unwind(test);
            let shown = if ended.is_ok() { Shown::Yes } else { Shown::No };
            results.lock().unwrap().insert(name.to_owned(), shown);
            ended.map_err(|cause| Failed::from(message_of(cause.as_ref())))
        })
        .with_ignored_flag(!can_run)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if std::env::var_os("PLFM_COMPLIANCE").is_some() {
        let (table, all_hold) = clauses::render(&results.lock().unwrap());
        println!("{table}");
        if !all_hold {
            std::process::exit(101);
        }
    }
    conclusion.exit();
}

/// Whether this machine has what a test's module needs besides the lab.
fn has_what_it_needs(name: &str) -> bool {
    if name.contains("promtool") && lab::promtool().is_none() {
        return false;
    }
    match name.split("::").next() {
        Some("network") => lab::has_tap(),
        Some("images_oci") => !images_oci::needs_registry(name) || lab::docker_registry().is_some(),
        Some("software") => lab::has_tap() && lab::software().is_some(),
        Some("mirrors") => lab::nginx().is_some(),
        Some("walk") => walk::can_be_walked(),
        Some("faults") => lab::faulty("hang").exists(),
        // Minutes each, and a busy machine is an incident to them: `cargo xtask rollouts` asks for them.
        Some("rollouts") => lab::faulty("hang").exists() && std::env::var_os("PLFM_ROLLOUTS").is_some(),
        Some("bucket") => lab::s3().is_some(),
        _ => true,
    }
}

/// What a panic said.
fn message_of(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("the test panicked")
        .to_owned()
}

/// Names a test function by its module and its own name.
#[macro_export]
macro_rules! facts {
    ($($test:ident),* $(,)?) => {
        pub const FACTS: &[$crate::Fact] = &[$((concat!(module_path!(), "::", stringify!($test)).split_at("e2e::".len()).1, $test)),*];
    };
}
