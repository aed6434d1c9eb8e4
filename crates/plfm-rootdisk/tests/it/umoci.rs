//! The same images unpacked by umoci, and mounted by the kernel: every fact of every entry must be the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use plfm_rootdisk::Limits;

use crate::corpus::{Case, cases};
use crate::erofs_reader::of_disk;
use crate::facts::{Tree, differences, of_directory};
use crate::images::{Packed, layout};
use crate::layers::build_layout;

/// Where the comparison cannot be made, and says so.
fn cannot(what: &str) {
    eprintln!("SKIPPED: {what}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn unpack(layout: &Path, to: &Path) -> Result<PathBuf, String> {
    let image = format!("{}:t", layout.display());
    run(Command::new("umoci").args(["unpack", "--image", &image]).arg(to))?;
    Ok(to.join("rootfs"))
}

/// Metadata of directories that no layer describes is left out: each tool has its own.
fn comparable(mut tree: Tree, case: &Case) -> Tree {
    for path in case.implied {
        let facts = tree
            .get_mut(path.as_bytes())
            .expect("an implied directory is missing");
        facts.mtime = (0, 0);
    }
    tree
}

#[test]
fn umoci_unpacks_every_image_of_the_corpus_to_the_same_tree() {
    if !is_root() || !runs("umoci") {
        return cannot("umoci has to be installed and run as root");
    }
    let mut failures = Vec::new();
    for (number, case) in cases().iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layout");
        let packed = [Packed::Gzip, Packed::Plain][number % 2];
        layout(&path, &case.layers, packed);
        let ours = match build_layout(directory.path(), &path, &Limits::default()) {
            Ok(stored) => of_disk(&stored.disk_path()),
            Err(error) => {
                failures.push(format!("{}: not built: {error:?}", case.name));
                continue;
            }
        };
        match unpack(&path, &directory.path().join("bundle")) {
            Ok(rootfs) => {
                let theirs = comparable(of_directory(&rootfs), case);
                let lines = differences(&comparable(ours, case), &theirs);
                failures.extend(lines.iter().map(|line| format!("{}: {line}", case.name)));
            }
            Err(error) => failures.push(format!("{}: umoci: {error}", case.name)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A mounted disk; gone with the value.
struct Mount(PathBuf);

impl Mount {
    fn new(disk: &Path, at: PathBuf, kind: &str) -> Result<Self, String> {
        std::fs::create_dir(&at).unwrap();
        run(Command::new("mount")
            .args(["-t", kind, "-o", "loop,ro"])
            .arg(disk)
            .arg(&at))?;
        Ok(Self(at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Reads a disk through the kernel, where that is possible.
pub fn mounted(disk: &Path, at: PathBuf, kind: &str) -> Result<Tree, String> {
    let mount = Mount::new(disk, at, kind)?;
    Ok(of_directory(&mount.0))
}

#[test]
fn the_kernel_and_fsck_read_every_disk_as_it_was_meant() {
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !is_root() || !filesystems.contains("erofs") {
        return cannot("a kernel with erofs and root are needed to mount");
    }
    for case in cases() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layout");
        layout(&path, &case.layers, Packed::Zstd);
        let stored = build_layout(directory.path(), &path, &Limits::default()).unwrap();
        let ours = of_disk(&stored.disk_path());
        let lines = match mounted(&stored.disk_path(), directory.path().join("mount"), "erofs") {
            Ok(theirs) => differences(&ours, &theirs),
            Err(error) if error.contains("loop") => return cannot("there is no loop device"),
            Err(error) => vec![error],
        };
        assert!(lines.is_empty(), "{}: {}", case.name, lines.join("\n"));
        if runs("fsck.erofs") {
            let fsck = run(Command::new("fsck.erofs").arg(stored.disk_path()));
            assert_eq!(fsck, Ok(()), "{}", case.name);
        }
    }
}
