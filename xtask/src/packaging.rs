//! What is shipped for systemd: units that it accepts, and that give away no more than they did.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::shell::{find, read, root, run_quietly, step};

/// The units, and the exposure that each may have at most, in tenths, by `systemd-analyze security`: 0 is none, 100 all. What
/// the agent needs of root is written in its unit.
const UNITS: [(&str, &str); 2] = [("plfm-control.service", "12"), ("plfm-agent.service", "33")];

/// Checks the units, where there is a systemd to ask.
pub fn check() -> anyhow::Result<()> {
    let Some(analyze) = find("systemd-analyze") else {
        step("the systemd units are not checked: there is no systemd-analyze");
        return Ok(());
    };
    step("the systemd units");
    let dir = root().join("packaging/systemd");
    let installed = tempfile::tempdir()?;
    for (unit, exposure_max) in UNITS {
        verify(&analyze, &installed_as_if(installed.path(), &dir.join(unit))?)?;
        let mut security = Command::new(&analyze);
        security.args(["security", "--no-pager", "--offline=true"]);
        security
            .arg(format!("--threshold={exposure_max}"))
            .arg(dir.join(unit));
        run_quietly(&mut security).with_context(|| format!("{unit} is more exposed than it was"))?;
    }
    Ok(())
}

/// The unit with its programs where they are, if there are none installed: that a program is missing here says nothing.
fn installed_as_if(dir: &Path, unit: &Path) -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(unit).with_context(|| format!("cannot read {}", unit.display()))?;
    let program = find("true").context("there is no `true`")?;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        lines.push(match line.split_once("=/usr/bin/plfm") {
            Some((key, rest)) => {
                let arguments = rest.split_once(' ').map_or("", |(_, arguments)| arguments);
                format!("{key}={} {arguments}", program.display())
            }
            None => line.to_owned(),
        });
    }
    let copy = dir.join(unit.file_name().context("a unit has a name")?);
    std::fs::write(&copy, lines.join("\n") + "\n")?;
    Ok(copy)
}

/// It warns of what it does not know and goes on: that is a fault of ours all the same.
fn verify(analyze: &Path, unit: &Path) -> anyhow::Result<()> {
    let mut verify = Command::new("sh");
    verify.args(["-c", r#"exec "$0" verify --no-pager --man=no "$1" 2>&1"#]);
    let said = read(verify.arg(analyze).arg(unit))?;
    ensure!(
        said.is_empty(),
        "systemd has something to say of {}:\n{said}",
        unit.display()
    );
    Ok(())
}
