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
        &whole_seconds(of_disk(&erofs.disk_path())),
        &whole_seconds(theirs),
    ))
}

/// mke2fs keeps seconds.
fn whole_seconds(mut tree: Tree) -> Tree {
    tree.values_mut().for_each(|facts| facts.mtime.1 = 0);
    tree
}
