//! Instructions from the reset to PID 1.
//!
//! Under `-icount shift=0,sleep=off` the guest's time-stamp counter counts instructions, which a busy machine does not
//! disturb. PID 1 is a probe of some kilobytes that prints the counter and reboots.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::shell::{read, root, run_quietly};

/// The machine that a kernel is counted on: `microvm` with one processor.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    memory_mib: u32,
    acpi: bool,
    entropy_device: bool,
    words: &'static str,
}

impl Machine {
    /// Without ACPI, as guests run, and without devices but the console.
    pub fn with_memory(memory_mib: u32) -> Self {
        Self {
            memory_mib,
            acpi: false,
            entropy_device: false,
            words: "",
        }
    }

    /// The same machine described by ACPI's tables.
    pub fn with_acpi(self) -> Self {
        Self { acpi: true, ..self }
    }

    /// The same machine, its kernel told `words` too.
    pub fn with_words(self, words: &'static str) -> Self {
        Self { words, ..self }
    }

    /// The same machine with the entropy device that guests have.
    pub fn with_entropy_device(self) -> Self {
        Self {
            entropy_device: true,
            ..self
        }
    }
}

/// Compiles the probe and packs it in `work`, with the console that the kernel opens for it.
pub fn pack_probe(work: &Path) -> anyhow::Result<PathBuf> {
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
pub fn count(kernel: &Path, initramfs: &Path, machine: Machine) -> anyhow::Result<u64> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-M",
        if machine.acpi {
            "microvm,acpi=on,rtc=on"
        } else {
            "microvm,acpi=off,rtc=on"
        },
    ]);
    qemu.args([
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        &machine.memory_mib.to_string(),
    ]);
    qemu.args(["-icount", "shift=0,sleep=off", "-nodefaults", "-no-user-config"]);
    qemu.args(["-display", "none", "-no-reboot", "-serial", "stdio"]);
    if machine.entropy_device {
        qemu.args([
            "-object",
            "rng-builtin,id=rng0",
            "-device",
            "virtio-rng-device,rng=rng0",
        ]);
    }
    let found_by = if machine.acpi { "" } else { "acpi=off " };
    let cmdline = format!(
        "console=ttyS0 quiet panic=-1 reboot=t {found_by}pci=off nolapic_timer no_timer_check rdinit=/probe {}",
        machine.words
    );
    qemu.args(["-append", &cmdline]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    let console = read(&mut qemu)?;
    let number = console
        .lines()
        .find_map(|line| line.trim().strip_prefix("probe "));
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("the probe printed nothing: {console}"))
}
