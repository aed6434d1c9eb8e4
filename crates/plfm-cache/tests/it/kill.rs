//! Processes that are killed for real, at random moments, and two processes on one directory.
//!
//! `PLFM_KILLS` says how many are killed (20 by default), `PLFM_SEED` repeats a run.

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plfm_cache::{Cache, ScrubState};
use plfm_release::ReleaseId;
use plfm_rollout::retention::{InUse, Installed, retain};

use crate::fixtures::{Release, directory, now, open, open_reporting, trust};
use crate::invariants::{check_reopened, check_unopened};
use crate::scenario::{Scenario, deliver};

const DIR: &str = "PLFM_CACHE_TEST_DIR";
const ROLE: &str = "PLFM_CACHE_TEST_ROLE";
const SEED: &str = "PLFM_SEED";
const KILLS_DEFAULT: u64 = 20;
/// How much longer than its last step a process may live: long enough for the next one.
const DELAY_US_MAX: u64 = 25_000;
const STEPS_MAX: u64 = 12;

/// SplitMix64: the same moments for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Six releases, the last two of which share the kernels of the first two. Of many chunks, so that a kill can fall
/// between two writes.
fn releases() -> Vec<Release> {
    let bytes = |part: &str, build: &str| format!("{part} {build} ").repeat(30_000).into_bytes();
    let release = |kernel: &str, initramfs: &str| {
        Release::of(
            kernel,
            bytes("kernel", kernel),
            initramfs,
            bytes("initramfs", initramfs),
        )
    };
    let own = ["a", "b", "c", "d"].map(|build| release(build, build));
    let sharing = [("a", "e"), ("b", "f")].map(|(kernel, initramfs)| release(kernel, initramfs));
    own.into_iter().chain(sharing).collect()
}

/// Starts this program once more, in a role.
fn start(dir: &Path, role: &str, seed: u64) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "kill::a_process_of_its_own",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .envs([(ROLE, role), (SEED, &seed.to_string())])
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

/// Reads on until the process says `wanted`; whether it did before it ended.
fn wait_for(output: &mut BufReader<ChildStdout>, wanted: &str) -> bool {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if line.trim_end().ends_with(wanted) {
            return true;
        }
        line.clear();
    }
    false
}

#[test]
#[ignore = "a process of its own, started by the other tests here"]
fn a_process_of_its_own() {
    let (Some(dir), Ok(role)) = (env::var_os(DIR), env::var(ROLE)) else {
        println!("nothing to do: this test is started by others");
        return;
    };
    let dir = Path::new(&dir);
    match role.as_str() {
        "hold" => match Cache::open(dir, trust()) {
            Ok(_held) => {
                println!("\nopened");
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).unwrap();
            }
            Err(error) => println!("\n{}", error.code()),
        },
        "work" => work(dir, &mut Random(env::var(SEED).unwrap().parse().unwrap())),
        other => panic!("no role {other}"),
    }
}

/// Installs, makes current, removes and scrubs until it is killed. Nothing of that may fail.
fn work(dir: &Path, random: &mut Random) {
    let (cache, releases) = (open(dir), releases());
    loop {
        let release = &releases[usize::try_from(random.below(6)).unwrap()];
        match random.below(4) {
            0 => deliver(release, &cache).unwrap(),
            1 => {
                if let Ok(installed) = cache.get(&release.id()) {
                    cache.set_current(&installed).unwrap();
                }
            }
            2 => remove_old(&cache),
            _ => {
                let mut scrub = cache.scrub().unwrap();
                while scrub.step(1 << 20).unwrap() == ScrubState::Going {}
                assert!(scrub.rotted().is_empty(), "{:?}", scrub.rotted());
            }
        }
        println!("\nstep");
        std::io::stdout().flush().unwrap();
    }
}

/// As an agent does it.
fn remove_old(cache: &Cache) {
    let installed = cache.inventory().unwrap().into_iter().map(|entry| Installed {
        release: entry.release,
        installed_at: entry.installed_at,
        bootable: entry.problem.is_none(),
    });
    let in_use = InUse {
        current: cache.current().unwrap().map(|current| current.id().clone()),
        ..InUse::default()
    };
    let plan = retain(&installed.collect::<Vec<_>>(), &in_use);
    let removal = cache.gc(&plan.remove, &in_use.releases()).unwrap();
    assert_eq!((removal.removed, removal.kept), (plan.remove, vec![]));
}

#[test]
fn a_process_that_is_killed_at_any_moment_leaves_a_whole_cache() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let kills = number("PLFM_KILLS").unwrap_or(KILLS_DEFAULT);
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .subsec_nanos()
            .into()
    };
    let seed = number(SEED).unwrap_or_else(clock);
    println!("{kills} kills, {SEED}={seed}");
    let mut random = Random(seed);
    let releases = releases();
    let ids: Vec<ReleaseId> = releases.iter().map(Release::id).collect();
    let scenario = Scenario {
        current: ids.into_iter().map(Some).collect(),
        releases,
        rotten: false,
        removing: false,
        prepare: |scenario, dir| deliver(&scenario.releases[0], &open(dir)).unwrap(),
        operation: |scenario, cache| deliver(&scenario.releases[0], cache),
    };
    // On a disk, not in memory, where there is one.
    let dir = tempfile::tempdir().unwrap();
    (scenario.prepare)(&scenario, dir.path());
    let (mut repaired, mut seen) = (0, BTreeSet::new());
    for kill in 0..kills {
        let (mut child, mut output) = start(dir.path(), "work", random.below(u64::MAX));
        for _ in 0..random.below(STEPS_MAX) {
            assert!(
                wait_for(&mut output, "step"),
                "the process failed before kill {kill}"
            );
        }
        thread::sleep(Duration::from_micros(random.below(DELAY_US_MAX)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            status.signal(),
            Some(9),
            "the process failed before kill {kill}: {status}"
        );
        check_unopened(&scenario, dir.path());
        let (cache, repairs) = open_reporting(dir.path());
        repaired += u64::from(!repairs.is_empty());
        seen.extend(repairs.iter().map(|repair| repair.to_string()));
        drop(cache);
        check_reopened(&scenario, dir.path());
        (scenario.operation)(&scenario, &open(dir.path())).unwrap();
        remove_old(&open(dir.path()));
    }
    println!("{repaired} of {kills} kills left something to repair:");
    seen.iter().for_each(|repair| println!("  {repair}"));
}

#[test]
fn two_processes_do_not_use_one_directory() {
    let dir = directory();
    let (mut child, mut output) = start(dir.path(), "hold", 0);
    assert!(wait_for(&mut output, "opened"));
    assert_eq!(
        Cache::open(dir.path(), trust()).unwrap_err().code(),
        "cache_locked"
    );
    // A lock ends with its process, however that ends.
    child.kill().unwrap();
    child.wait().unwrap();
    let cache = open(dir.path());
    Release::new("a").stage(&cache).unwrap().install(now()).unwrap();
    let (mut child, mut output) = start(dir.path(), "hold", 0);
    assert!(wait_for(&mut output, "cache_locked"));
    assert!(child.wait().unwrap().success());
    cache.get(&Release::new("a").id()).unwrap().open().unwrap();
}
