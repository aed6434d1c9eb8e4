//! The A/B of the initramfs: the same kernel, the same probe as PID 1, with our image before it and without.
//!
//! ```text
//! A: [probe]              rdinit=/probe
//! B: [our image][probe]   rdinit=/probe
//! ```
//!
//! The kernel unpacks archives that follow each other, so B has exactly our image's bytes more than A. Under
//! `-icount shift=0,sleep=off` the guest's time-stamp counter counts instructions, which a busy machine does not
//! disturb.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::{millions, percentile};
use crate::lab::{self, Lab};
use crate::setup;
use crate::shell::{read, root, run_quietly, step};

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
        let (a, b) = (count(&kernel, probe, memory)?, count(&kernel, &both, memory)?);
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

/// Compiles the probe and packs it, with the console that the kernel opens for it.
fn pack_probe(work: &Path) -> anyhow::Result<PathBuf> {
    let tree = work.join("tree");
    std::fs::create_dir_all(tree.join("dev"))?;
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let flags = [
        "-O",
        "-Cpanic=abort",
        "-Crelocation-model=static",
        "-Clink-arg=-nostdlib",
        "-Clink-arg=-static",
    ];
    run_quietly(
        Command::new(rustc)
            .args(["--edition", "2024", "-Clink-arg=-nostartfiles", "-Cstrip=symbols"])
            .args(flags)
            .arg(root().join("xtask/probe/probe.rs"))
            .arg("-o")
            .arg(tree.join("probe")),
    )?;
    let image = work.join("probe.img");
    let script = "mknod -m 600 dev/console c 5 1 && find . | LC_ALL=C sort | cpio -o -H newc --quiet";
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(&tree)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("cannot pack the probe (making /dev/console needs root)");
    }
    std::fs::write(&image, output.stdout)?;
    Ok(image)
}

/// Boots and reads the probe's count.
fn count(kernel: &Path, initramfs: &Path, memory_mib: u32) -> anyhow::Result<u64> {
    let memory = format!("{memory_mib}");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-M",
        "microvm,acpi=off,rtc=on",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        &memory,
    ]);
    qemu.args([
        "-icount",
        "shift=0,sleep=off",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    qemu.args([
        "-serial",
        "stdio",
        "-append",
        "console=ttyS0 quiet panic=-1 reboot=t nolapic_timer no_timer_check rdinit=/probe",
    ]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    let console = read(&mut qemu)?;
    let number = console
        .lines()
        .find_map(|line| line.trim().strip_prefix("probe "));
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("the probe printed nothing: {console}"))
}
