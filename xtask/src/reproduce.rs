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
    let first = build(&lab, &root(), &out.join("first"), &HERE, None)?;
    step("building the same from the copy, with another time zone, locale, umask and number of jobs");
    let cache = kernel.then(|| out.join("kernels"));
    let second = build(&lab, &copy, &out.join("second"), &ELSEWHERE, cache.as_deref())?;
    println!("{first}\n{second}");
    if first != second {
        bail!("the two builds differ");
    }
    step(if kernel {
        "kernel and initramfs are the same"
    } else {
        "the initramfs is the same (the kernel came from the cache)"
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

/// What must make no difference.
struct Surroundings {
    umask: &'static str,
    time_zone: &'static str,
    locale: &'static str,
    jobs: &'static str,
}

const HERE: Surroundings = Surroundings {
    umask: "022",
    time_zone: "UTC",
    locale: "C.UTF-8",
    jobs: "2",
};
const ELSEWHERE: Surroundings = Surroundings {
    umask: "077",
    time_zone: "Pacific/Kiritimati",
    locale: "C",
    jobs: "3",
};

/// Builds a release of the sources in `workspace` and gives the digests of its files.
fn build(
    lab: &Lab,
    workspace: &Path,
    out: &Path,
    around: &Surroundings,
    kernel_cache: Option<&Path>,
) -> anyhow::Result<String> {
    let mut command = Command::new("sh");
    // The shell is only there for the umask.
    command
        .args(["-c", "umask \"$1\"; shift; exec \"$@\"", "sh", around.umask])
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
        .env("LC_ALL", around.locale)
        .env("TZ", around.time_zone)
        .args(["--jobs", around.jobs])
        .current_dir("/");
    if let Some(cache) = kernel_cache {
        command.arg("--kernel-cache").arg(cache);
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
