//! The corpus unpacked by umoci: every fact of every entry must be the same.

use std::process::Command;

use libtest_mimic::{Failed, Trial};
use plfm_rootdisk::DiskFormat;

use crate::corpus::{Case, cases};
use crate::erofs_reader::of_disk;
use crate::facts::{Tree, differences, of_directory};
use crate::images::{Packed, layout};
use crate::lab::{build, has, is_root, none_of, run, trial};

pub fn trials() -> Vec<Trial> {
    let can_run = is_root() && has("umoci");
    let cases = cases().into_iter().filter(|case| !case.is_beyond_umoci);
    cases
        .map(|case| {
            trial(
                format!("umoci unpacks to the same: {}", case.name),
                can_run,
                move || compare(&case),
            )
        })
        .collect()
}

fn compare(case: &Case) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("layout");
    layout(&path, &case.layers, Packed::Gzip);
    let stored = build(directory.path(), &path, DiskFormat::Erofs)?;
    let bundle = directory.path().join("bundle");
    let image = format!("{}:t", path.display());
    run(Command::new("umoci")
        .args(["unpack", "--image", &image])
        .arg(&bundle))?;
    let theirs = without_times(of_directory(&bundle.join("rootfs")), case);
    none_of(&differences(
        &without_times(of_disk(&stored.disk_path()), case),
        &theirs,
    ))
}

fn without_times(mut tree: Tree, case: &Case) -> Tree {
    for path in case.times_aside {
        tree.get_mut(path.as_bytes()).expect("a path is missing").mtime = (0, 0);
    }
    tree
}
