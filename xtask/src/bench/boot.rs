//! The A/B of the initramfs: the same kernel, the same probe as PID 1, with our image before it and without.
//!
//! ```text
//! A: [probe]              rdinit=/probe
//! B: [our image][probe]   rdinit=/probe
//! ```
//!
//! The kernel unpacks archives that follow each other, so B has exactly our image's bytes more than A.

use std::path::Path;

use super::icount::{Machine, count, pack_probe};
use super::{millions, percentile};
use crate::lab::{self, Lab};
use crate::setup;
use crate::shell::step;

/// Memory of the first pair, and how much each further one has more, in MiB.
const MEMORY_MIB: (u32, u32) = (96, 16);

/// Measures both of the lab's releases.
pub fn run(pairs: u32) -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    let work = tempfile::tempdir()?;
    let probe = pack_probe(work.path())?;
    println!(
        "| image | size, KiB | instructions to PID 1 without, median | added, median | added, P99 | added, max |"
    );
    println!("|---|---|---|---|---|---|");
    for name in ["release", "release-b"] {
        measure(&lab, name, &probe, work.path(), pairs)?;
    }
    Ok(())
}

fn measure(lab: &Lab, name: &str, probe: &Path, work: &Path, pairs: u32) -> anyhow::Result<()> {
    let release = lab.dir.join(name);
    let (kernel, image) = (
        lab::artifact(&release, "vmlinuz-")?,
        lab::artifact(&release, "initramfs-")?,
    );
    let both = work.join("both.img");
    std::fs::write(
        &both,
        [padded(std::fs::read(&image)?), std::fs::read(probe)?].concat(),
    )?;
    let (mut without, mut added) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        let memory = MEMORY_MIB.0 + MEMORY_MIB.1 * pair;
        step(&format!("{name}: pair {} of {pairs}, {memory} MiB", pair + 1));
        let machine = Machine::with_memory(memory);
        let (a, b) = (count(&kernel, probe, machine)?, count(&kernel, &both, machine)?);
        without.push(a);
        added.push(b.saturating_sub(a));
    }
    without.sort_unstable();
    added.sort_unstable();
    println!(
        "| {name} | {} | {} | {} | {} | {} |",
        std::fs::metadata(&image)?.len() / 1024,
        millions(percentile(&without, 50)),
        millions(percentile(&added, 50)),
        millions(percentile(&added, 99)),
        millions(percentile(&added, 100)),
    );
    Ok(())
}

/// Archives that follow each other begin at multiples of four bytes.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
