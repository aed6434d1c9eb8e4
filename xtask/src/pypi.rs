//! Programs from PyPI, each in a Python environment of its own below the target directory.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::lab::target_dir;
use crate::shell::{run_quietly, step};

/// A program from PyPI, of a fixed version.
pub struct Program {
    /// What is installed, as pip names it.
    pub requirement: &'static str,
    pub version: &'static str,
    /// What shows that it is there.
    pub program: &'static str,
}

impl Program {
    /// The directory of its programs; `None`, said aloud, where it can't be had.
    pub fn ensure(&self, what_is_skipped: &str) -> anyhow::Result<Option<PathBuf>> {
        let (name, _) = self.requirement.split_once('[').unwrap_or((self.requirement, ""));
        let venv = target_dir().join(format!("{name}-{}", self.version));
        let bin = venv.join("bin");
        if bin.join(self.program).exists() {
            return Ok(Some(bin));
        }
        step(&format!("installing {name} {} from PyPI", self.version));
        let installed = run_quietly(Command::new("python3").args(["-m", "venv"]).arg(&venv)).and_then(|()| {
            run_quietly(
                Command::new(bin.join("pip"))
                    .args(["install", "--quiet", "--disable-pip-version-check"])
                    .arg(format!("{}=={}", self.requirement, self.version)),
            )
        });
        match installed {
            Ok(()) => Ok(Some(bin)),
            Err(error) => {
                step(&format!(
                    "{what_is_skipped} skipped: {name} cannot be installed: {error}"
                ));
                match std::fs::remove_dir_all(&venv) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(error).with_context(|| format!("cannot remove {}", venv.display()))
                    }
                    _ => Ok(None),
                }
            }
        }
    }
}
