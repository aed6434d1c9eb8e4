//! The corpus's disks mounted by the kernel and looked at by erofs-utils.

use std::process::Command;

use libtest_mimic::{Failed, Trial};
use plfm_rootdisk::DiskFormat;

use crate::corpus::{Case, cases};
use crate::erofs_reader::of_disk;
use crate::facts::differences;
use crate::images::{Packed, layout};
use crate::lab::{build, has, mounted, mounts, none_of, run, trial};

pub fn trials() -> Vec<Trial> {
    let can_run = mounts("erofs");
    let name = |case: &Case| format!("the kernel reads it as it was meant: {}", case.name);
    let mut trials: Vec<Trial> = cases()
        .into_iter()
        .map(|case| trial(name(&case), can_run, move || compare(&case)))
        .collect();
    trials.push(trial(
        "fsck.erofs extracts the whole corpus".to_owned(),
        has("fsck.erofs"),
        check,
    ));
    trials
}

fn compare(case: &Case) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("layout");
    layout(&path, &case.layers, Packed::Zstd);
    let stored = build(directory.path(), &path, DiskFormat::Erofs)?;
    let theirs = mounted(&stored.disk_path(), &directory.path().join("mount"), "erofs")?;
    none_of(&differences(&of_disk(&stored.disk_path()), &theirs))
}

fn check() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    for (number, case) in cases().iter().enumerate() {
        let path = directory.path().join(format!("layout-{number}"));
        layout(&path, &case.layers, Packed::Plain);
        let disk = build(directory.path(), &path, DiskFormat::Erofs)?.disk_path();
        run(Command::new("fsck.erofs").arg("--extract").arg(disk))
            .map_err(|error| format!("{}: {error:?}", case.name))?;
    }
    Ok(())
}
