//! The same images in the hands of others: umoci, skopeo, the kernel, e2fsprogs, docker's registry. Each trial that
//! needs what this machine lacks is reported as ignored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests, which clippy does not know of those without its own harness"
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

mod distribution;
mod ext4;
mod kernel;
mod lab;
mod umoci;

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = umoci::trials();
    trials.extend(kernel::trials());
    trials.extend(ext4::trials());
    trials.extend(distribution::trials());
    libtest_mimic::run(&arguments, trials).exit();
}
