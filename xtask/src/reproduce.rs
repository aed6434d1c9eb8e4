//! The same release again, from a copy of the sources in another directory: its bytes must be the same.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::lab::{self, Lab};
use crate::setup;
use crate::shell::{self, read, root, run_quietly, step};

/// Builds twice and compares.
pub fn run(kernel: bool) -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    let elsewhere = tempfile::Builder::new().prefix("plfm-elsewhere-").tempdir()?;
    let copy = elsewhere.path().join("another/name for the sources");
    step(&format!("copying the sources to {}", copy.display()));
    copy_sources(&copy)?;
    let out = elsewhere.path().join("out");
    std::fs::create_dir_all(&out)?;
    let first = build(&lab, &root(), &out.join("first"), None)?;
    step("building the same from the copy, with another clock, locale, umask and number of jobs");
    let cache = kernel.then(|| out.join("kernels"));
    let second = build(&lab, &copy, &out.join("second"), cache.as_deref())?;
    println!("{first}\n{second}");
    if first != second {
        bail!("the two builds differ");
    }
    step(if kernel {
        "kernel, initramfs and manifest are the same"
    } else {
        "initramfs and manifest are the same (kernel: cached)"
    });
    Ok(())
}

fn copy_sources(to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    let files = read(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root()),
    )?;
    for file in files.lines().filter(|file| root().join(file).is_file()) {
        let target = to.join(file);
        std::fs::create_dir_all(target.parent().context("a file without a directory")?)?;
        std::fs::copy(root().join(file), target)?;
    }
    Ok(())
}

/// Builds a release of the sources in `workspace` and gives the digests of its files.
fn build(lab: &Lab, workspace: &Path, out: &Path, kernel_cache: Option<&Path>) -> anyhow::Result<String> {
    let mut command = Command::new("sh");
    // The shell is only there for the umask.
    command
        .args(["-c", "umask 077; exec \"$@\"", "sh"])
        .arg(lab.bin.join("plfm"));
    command.args([
        "release",
        "build",
        "--epoch",
        "1767225600",
        "--build-id",
        "20260101r",
        "--channel",
        "production",
    ]);
    command
        .arg("--workspace")
        .arg(workspace)
        .arg("--out")
        .arg(out)
        .arg("--key")
        .arg(lab.dir.join("keys/lab.key"));
    command
        .env("LC_ALL", "C")
        .env("TZ", "Pacific/Kiritimati")
        .current_dir("/");
    if let Some(cache) = kernel_cache {
        command.arg("--kernel-cache").arg(cache).args(["--jobs", "3"]);
    }
    shell::run(&mut command)?;
    let digests = read(
        Command::new("sh")
            .args(["-c", "sha256sum vmlinuz-* initramfs-* kernel.config"])
            .current_dir(out),
    )?;
    run_quietly(
        lab.plfm()
            .args(["release", "verify"])
            .arg(out)
            .arg("--keyring")
            .arg(lab.keyring()),
    )?;
    Ok(digests)
}
