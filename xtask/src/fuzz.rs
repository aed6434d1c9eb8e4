//! The fuzz targets of `plfm-guest-protocol`, one after the other. They begin with the checked-in corpus and leave it
//! as it is: what they find is in `fuzz/found`, what breaks them in `fuzz/artifacts` of that crate.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::shell::{self, is_installed, root, step};

/// Where the targets are.
const FUZZ_DIR: &str = "crates/plfm-guest-protocol/fuzz";
/// Longest input, in bytes: room for a config and a stream, small enough for thousands of runs a second.
const INPUT_BYTES_MAX: usize = 16 * 1024;

/// Runs `target`, or all of them, for `seconds` each.
pub fn run(target: Option<&str>, seconds: u64) -> anyhow::Result<()> {
    let dir = root().join(FUZZ_DIR);
    let targets = chosen(&targets(&dir)?, target)?;
    ensure_tools()?;
    for target in &targets {
        step(&format!("fuzzing {target} for {seconds} s"));
        let found = format!("found/{target}");
        fs::create_dir_all(dir.join(&found)).with_context(|| format!("cannot make {found}"))?;
        // Not `cargo +nightly`: inside of a task, `cargo` may be that of the stable toolchain itself.
        let mut command = Command::new("rustup");
        command
            .args(["run", "nightly", "cargo", "fuzz", "run", "--fuzz-dir", "."])
            .args([target.as_str(), &found, &format!("corpus/{target}"), "--"])
            .args([
                format!("-max_total_time={seconds}"),
                format!("-max_len={INPUT_BYTES_MAX}"),
                format!("-dict=dictionaries/{target}.dict"),
                "-print_final_stats=1".to_owned(),
            ])
            .current_dir(&dir);
        shell::run(&mut command)?;
    }
    Ok(())
}

/// Says what is missing: neither is part of what the other tasks need.
fn ensure_tools() -> anyhow::Result<()> {
    ensure!(
        is_installed("rustup"),
        "fuzzing needs the nightly toolchain, and there is no rustup to ask for it"
    );
    let toolchains = shell::read(Command::new("rustup").args(["toolchain", "list"]))?;
    ensure!(
        toolchains.lines().any(|line| line.starts_with("nightly")),
        "fuzzing needs the nightly toolchain: rustup toolchain install nightly --profile minimal"
    );
    ensure!(
        is_installed("cargo-fuzz"),
        "fuzzing needs cargo-fuzz: cargo install cargo-fuzz --locked"
    );
    Ok(())
}

fn targets(dir: &Path) -> anyhow::Result<Vec<String>> {
    let sources = dir.join("fuzz_targets");
    let entries = fs::read_dir(&sources).with_context(|| format!("cannot list {}", sources.display()))?;
    let paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    let mut names: Vec<String> = paths
        .iter()
        .filter(|path| path.extension() == Some(OsStr::new("rs")))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn chosen(all: &[String], target: Option<&str>) -> anyhow::Result<Vec<String>> {
    match target {
        None => Ok(all.to_vec()),
        Some(target) if all.iter().any(|name| name == target) => Ok(vec![target.to_owned()]),
        Some(target) => bail!(
            "there is no fuzz target {target:?}; there are: {}",
            all.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_target_is_found_and_an_unknown_one_is_named() {
        let all = targets(&root().join(FUZZ_DIR)).unwrap();
        assert_eq!(
            all,
            ["cmdline", "config", "frames", "lines", "secrets", "sessions"]
        );
        assert_eq!(chosen(&all, Some("lines")).unwrap(), ["lines"]);
        let error = chosen(&all, Some("nothing")).unwrap_err().to_string();
        assert!(error.contains("nothing") && error.contains("sessions"), "{error}");
    }
}
