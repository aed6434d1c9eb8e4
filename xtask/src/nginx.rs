//! Debian's nginx, for the tests: its program only, taken out of the package. Installing the package would start a
//! service, and another one at the next boot.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::lab::target_dir;
use crate::setup::apt_get;
use crate::shell::{find, run_quietly, step};

/// The program: the machine's own, or one below the target directory.
pub fn ensure() -> anyhow::Result<PathBuf> {
    if let Some(nginx) = find("nginx") {
        return Ok(nginx);
    }
    let dir = target_dir().join("nginx");
    let nginx = dir.join("usr/sbin/nginx");
    if !nginx.exists() {
        step("taking nginx out of its Debian package");
        unpack(&dir).context("cannot get nginx: install the Debian package nginx yourself")?;
    }
    run_quietly(Command::new(&nginx).arg("-v"))
        .context("Debian's nginx does not run here: install the package nginx yourself")?;
    Ok(nginx)
}

fn unpack(dir: &Path) -> anyhow::Result<()> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir)?;
    let download = || {
        run_quietly(
            Command::new("apt-get")
                .args(["download", "-q", "nginx"])
                .current_dir(dir),
        )
    };
    if download().is_err() {
        // The lists name a version that is there no more, or there are none.
        run_quietly(&mut apt_get(&["update", "-q"]))?;
        download()?;
    }
    let mut packages = std::fs::read_dir(dir)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let package = packages.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let Some(package) = package else {
        bail!("apt-get downloaded nothing");
    };
    run_quietly(Command::new("dpkg-deb").arg("-x").arg(package).arg(dir))
}
