//! A crash after any change leaves the old state or the new one, and the operation can be done again.
//!
//! Each scenario is tried with a failure at its first change, its second, and so on to the last: the process dies,
//! the power is cut and what was not synced is gone, the disk is full once.

use std::sync::Arc;

use plfm_cache::{Cache, HostDisk};
use tempfile::TempDir;

use crate::fixtures::{directory, trust};
use crate::invariants::Invariants;
use crate::scenario::{
    Scenario, first_install, installation_alone, new_signature, reinstall, removal, removal_of_two,
    repair_of_a_rotten_kernel, rollback, upgrade, upgrade_of_the_initramfs_alone,
    upgrade_of_the_kernel_alone,
};
use crate::test_disk::{Durable, Failure, TestDisk};

#[test]
fn a_first_install_survives_every_crash() {
    survives_every_failure(&first_install());
    survives_every_failure(&installation_alone());
}

#[test]
fn an_upgrade_survives_every_crash() {
    survives_every_failure(&upgrade());
}

#[test]
fn an_upgrade_of_one_artifact_survives_every_crash() {
    survives_every_failure(&upgrade_of_the_initramfs_alone());
    survives_every_failure(&upgrade_of_the_kernel_alone());
}

#[test]
fn a_rollback_survives_every_crash() {
    survives_every_failure(&rollback());
}

#[test]
fn a_reinstall_survives_every_crash() {
    survives_every_failure(&reinstall());
}

#[test]
fn a_new_signature_survives_every_crash() {
    survives_every_failure(&new_signature());
}

#[test]
fn the_repair_of_a_rotten_kernel_survives_every_crash() {
    survives_every_failure(&repair_of_a_rotten_kernel());
}

#[test]
fn a_removal_survives_every_crash() {
    survives_every_failure(&removal());
    survives_every_failure(&removal_of_two());
}

/// What a killed process left is what the next one builds upon, and it may not be on the disk yet.
#[test]
fn a_power_cut_in_a_second_installation_after_a_kill_in_the_first_is_survived() {
    survives_a_power_cut_after_a_kill(&first_install(), 17);
    survives_a_power_cut_after_a_kill(&upgrade(), 17);
}

#[test]
fn a_power_cut_in_a_second_removal_after_a_kill_in_the_first_is_survived() {
    survives_a_power_cut_after_a_kill(&removal(), 7);
}

/// Tries each kill, and after it every `stride`th power cut: every pair would take minutes. The last one, in which the
/// second attempt ends well, is always tried.
fn survives_a_power_cut_after_a_kill(scenario: &Scenario, stride: usize) {
    let (prepared, mut invariants) = (prepared(scenario), Invariants::of(scenario));
    let mut attempts = |first, second| {
        let dir = copy_of(&prepared);
        let first = run(scenario, TestDisk::failing(dir.path(), Failure::Death, first));
        let host = HostDisk::open(dir.path()).unwrap();
        let disk = TestDisk::continuing(host, Failure::Death, second, first.durable);
        let second = run(scenario, disk);
        second.durable.restore(dir.path());
        invariants.check(dir.path(), second.finished);
        (first.failed, second.failed)
    };
    for first in 0.. {
        let mut second = first % stride;
        loop {
            let (first_failed, second_failed) = attempts(first, second);
            if !first_failed {
                return;
            }
            if !second_failed {
                break;
            }
            second += stride;
        }
    }
}

/// The directory before the operation.
pub fn prepared(scenario: &Scenario) -> Durable {
    let dir = directory();
    (scenario.prepare)(scenario, dir.path());
    Durable::of(dir.path())
}

/// A directory in that state.
pub fn copy_of(state: &Durable) -> TempDir {
    let dir = directory();
    drop(HostDisk::open(dir.path()).unwrap());
    state.restore(dir.path());
    dir
}

fn survives_every_failure(scenario: &Scenario) {
    let (prepared, mut invariants) = (prepared(scenario), Invariants::of(scenario));
    for failure in [Failure::Death, Failure::DiskFull] {
        for good in 0.. {
            let dir = copy_of(&prepared);
            let attempt = run(scenario, TestDisk::failing(dir.path(), failure, good));
            let survivors = attempt.durable.after_power_cut(dir.path());
            // The process died and the disk did not, or nothing died.
            invariants.check(dir.path(), attempt.finished);
            for durable in survivors {
                durable.restore(dir.path());
                invariants.check(dir.path(), attempt.finished);
            }
            if !attempt.failed {
                assert!(good > 4, "the scenario changes next to nothing");
                break;
            }
        }
    }
}

/// What came of one attempt.
pub struct Attempt {
    /// Whether the disk failed.
    pub failed: bool,
    /// Whether the operation succeeded, at once or when it was done again.
    pub finished: bool,
    /// What of it is durable.
    pub durable: Durable,
}

/// Opens the cache and does the operation on a disk.
pub fn run(scenario: &Scenario, disk: TestDisk) -> Attempt {
    let disk = Arc::new(disk);
    let outcome = match Cache::open_on(disk.clone(), trust()) {
        Err(error) => Err(error.into()),
        Ok((cache, _)) => match (scenario.operation)(scenario, &cache) {
            // The disk was full once. The same process can do it again.
            Err(_) if disk.alive().is_ok() => (scenario.operation)(scenario, &cache),
            outcome => outcome,
        },
    };
    // Cleaning up may fail without a word; everything else must say so.
    assert!(outcome.is_ok() || disk.failed(), "{outcome:?}");
    assert_eq!(Arc::strong_count(&disk), 1, "something still has the directory");
    Attempt {
        failed: disk.failed(),
        finished: outcome.is_ok(),
        durable: disk.durable(),
    }
}
