//! All tests. Those in microVMs find the lab by `PLFM_LAB`.

use std::ffi::OsString;

use anyhow::Context as _;

use crate::shell::{self, cargo, is_installed, step};
use crate::{lab, setup};

/// Runs them.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    let kernel = kernel_of(&lab)?;
    step("running the tests");
    let mut command = cargo();
    if is_installed("cargo-nextest") {
        command.args(["nextest", "run", "--workspace", "--locked"]);
    } else {
        command.args(["test", "--quiet", "--workspace", "--locked"]);
    }
    command
        .args(args)
        .env("PLFM_LAB", &lab.dir)
        .env("PLFM_BIN", &lab.bin)
        .env("PLFM_LAB_KERNEL", kernel);
    shell::run(&mut command)?;
    if is_installed("cargo-nextest") {
        // Examples in documentation, which nextest does not run.
        shell::run(cargo().args(["test", "--quiet", "--doc", "--workspace", "--locked"]))?;
    }
    Ok(())
}

fn kernel_of(lab: &lab::Lab) -> anyhow::Result<OsString> {
    let entries = std::fs::read_dir(lab.release())?;
    let mut names = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let kernel = names.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz-") && !name.ends_with(".sha256")
    });
    kernel
        .map(OsString::from)
        .context("the lab's release has no kernel")
}
