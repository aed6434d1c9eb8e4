//! What a trial needs of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use plfm_rootdisk::{DiskFormat, Image, Limits, Store, StoredImage};

use crate::facts::{Tree, of_directory};

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Whether disks can be mounted: root, a loop device and the file system.
pub fn mounts(kind: &str) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = known.split_whitespace().any(|name| name == kind);
    let free = Command::new("losetup")
        .arg("-f")
        .output()
        .is_ok_and(|output| output.status.success());
    is_root() && known && free
}

/// A trial that is ignored where it cannot run.
pub fn trial(
    name: String,
    can_run: bool,
    body: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    Trial::test(name, body).with_ignored_flag(!can_run)
}

pub fn run(command: &mut Command) -> Result<String, Failed> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

pub fn none_of(lines: &[String]) -> Result<(), Failed> {
    if lines.is_empty() {
        Ok(())
    } else {
        Err(lines.join("\n").into())
    }
}

pub fn build(directory: &Path, layout: &Path, format: DiskFormat) -> Result<StoredImage, Failed> {
    let image = Image::from_layout(layout, Some("t"), &Limits::default())?;
    build_image(directory, &image, format)
}

pub fn build_image(directory: &Path, image: &Image, format: DiskFormat) -> Result<StoredImage, Failed> {
    let store = Store::open(&directory.join("images"))?;
    store
        .build(image, format, &Limits::default(), &mut |_| {})
        .map_err(|error| format!("{error:?}").into())
}

/// A mounted disk; gone with the value.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Reads a disk through the kernel.
pub fn mounted(disk: &Path, at: &Path, kind: &str) -> Result<Tree, Failed> {
    std::fs::create_dir(at)?;
    run(Command::new("mount")
        .args(["-t", kind, "-o", "loop,ro"])
        .arg(disk)
        .arg(at))?;
    let mount = Mount(at.to_owned());
    Ok(of_directory(&mount.0))
}
