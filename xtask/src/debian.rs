//! Programs of Debian packages that are used without being installed: installing them would start a service, and
//! another one at the next boot.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::lab::target_dir;
use crate::setup::apt_get;
use crate::shell::{find, run_quietly, step};

/// A program in a package.
pub struct Program {
    package: &'static str,
    /// Where it is in the package.
    path: &'static str,
    /// What it is asked to see that it runs.
    probe: &'static str,
}

/// A web server, as a mirror of a registry.
pub const NGINX: Program = Program {
    package: "nginx",
    path: "usr/sbin/nginx",
    probe: "-v",
};
/// Checks metrics, rules and rules' tests.
pub const PROMTOOL: Program = Program {
    package: "prometheus",
    path: "usr/bin/promtool",
    probe: "--version",
};

/// A registry of images, as docker has it.
pub const DOCKER_REGISTRY: Program = Program {
    package: "docker-registry",
    path: "usr/bin/docker-registry",
    probe: "--version",
};

impl Program {
    /// The program: the machine's own, or one below the target directory.
    pub fn ensure(&self) -> anyhow::Result<PathBuf> {
        let name = self.path.rsplit('/').next().unwrap_or(self.path);
        if let Some(program) = find(name) {
            return Ok(program);
        }
        let dir = target_dir().join(self.package);
        let program = dir.join(self.path);
        let advice = || {
            format!(
                "cannot get {name}: install the Debian package {} yourself",
                self.package
            )
        };
        if !program.exists() {
            step(&format!("taking {name} out of its Debian package"));
            unpack(self.package, &dir).with_context(advice)?;
        }
        run_quietly(Command::new(&program).arg(self.probe)).with_context(advice)?;
        Ok(program)
    }
}

fn unpack(name: &str, dir: &Path) -> anyhow::Result<()> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir)?;
    let download = || {
        run_quietly(
            Command::new("apt-get")
                .args(["download", "-q", name])
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
