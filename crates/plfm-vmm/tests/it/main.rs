//! Real microVMs. Each trial that needs one is reported as ignored where this machine can't run it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests, which clippy does not know of those without its own harness"
)]

mod boot;
mod failure;
mod fake;
mod fake_qemu;
mod firecracker;
mod lab;
mod real;
mod tap;
mod vsock;

use libtest_mimic::{Arguments, Trial};

fn main() {
    if fake_qemu::is_asked_for() {
        return fake_qemu::main();
    }
    let arguments = Arguments::from_args();
    let lab = lab::Lab::find();
    if let Err(missing) = &lab
        && !arguments.list
    {
        eprintln!("trials with a microVM are skipped: {missing}");
    }
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(boot::trials(&lab));
    trials.extend(vsock::trials(&lab));
    trials.extend(failure::trials(&lab));
    trials.extend(tap::trials(&lab));
    trials.extend(firecracker::trials());
    trials.extend(real::trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    // An exit runs no destructors, and the lab owns a temporary directory.
    drop(lab);
    conclusion.exit();
}
