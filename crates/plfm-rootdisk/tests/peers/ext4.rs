//! The corpus as ext4, mounted by the kernel.

use std::process::Command;

use libtest_mimic::{Failed, Trial};
use plfm_rootdisk::DiskFormat;

use crate::corpus::{Case, cases};
use crate::erofs_reader::of_disk;
use crate::facts::{Tree, differences};
use crate::images::{Packed, layout};
use crate::lab::{build, mounted, mounts, none_of, run, trial};

pub fn trials() -> Vec<Trial> {
    let can_run = mounts("ext4") && Command::new("mke2fs").arg("-V").output().is_ok();
    let name = |case: &Case| format!("ext4 holds the same: {}", case.name);
    cases()
        .into_iter()
        .map(|case| trial(name(&case), can_run, move || compare(&case)))
        .collect()
}

fn compare(case: &Case) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("layout");
    layout(&path, &case.layers, Packed::Gzip);
    let erofs = build(directory.path(), &path, DiskFormat::Erofs)?;
    let ext4 = build(directory.path(), &path, DiskFormat::Ext4)?;
    run(Command::new("e2fsck").args(["-f", "-n"]).arg(ext4.disk_path()))?;
    let theirs = mounted(&ext4.disk_path(), &directory.path().join("mount"), "ext4")?;
    none_of(&differences(
        &as_mke2fs_has_it(of_disk(&erofs.disk_path())),
        &as_mke2fs_has_it(theirs),
    ))
}

/// mke2fs keeps whole seconds of 32 bits, and a symbolic link with two names becomes two links.
fn as_mke2fs_has_it(mut tree: Tree) -> Tree {
    for facts in tree.values_mut() {
        let seconds = facts.mtime.0;
        facts.mtime = (
            if seconds > i64::from(u32::MAX) {
                seconds - (1 << 32)
            } else {
                seconds
            },
            0,
        );
        if !facts.target.is_empty() {
            facts.links = 1;
        }
    }
    tree
}
