//! What it costs to start with a cache of ten releases and to boot from it: the spec's "Signature verification time:
//! <= 100 ms", for a whole pair of realistic size (a kernel of 18 MiB, an initramfs of 1.2 MiB) on a real disk.
//!
//! `open` is starting with ten releases, `pair_cold` the first boot after it, `pair_unchanged` every further one:
//! both verify the signature, the compatibility and the two files. `stage` is bringing in one more release from files
//! of the same disk, up to its installation: what it takes longer than `pair_cold` is what copying costs.

#![allow(clippy::expect_used)]

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use plfm_cache::{Cache, StagedRelease, Trust};
use plfm_release::{
    Architecture, ArtifactKind, Channel, KeyEntry, Keyring, Protocol, Sha256Digest, SignedManifest,
    SigningKey, VerifiedManifest, sign,
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tempfile::TempDir;
use zeroize::Zeroizing;

const RELEASES: u32 = 10;
const KERNEL_BYTES: usize = 18 * 1024 * 1024;
const INITRAMFS_BYTES: usize = 12 * 1024 * 1024 / 10;

fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([1; 32]))
}

fn trust() -> Trust {
    let channels = vec![Channel::production()];
    let entry = KeyEntry::new(
        key().public_key(),
        channels,
        Timestamp::UNIX_EPOCH,
        Timestamp::MAX,
    );
    let mut keyring = Keyring::default();
    keyring.insert(entry).expect("a new key");
    Trust {
        keyring,
        channel: Channel::production(),
        arch: Architecture::X86_64,
        agent_version: semver::Version::new(1, 0, 0),
        protocols: vec![Protocol(1)],
    }
}

fn manifest(build: u32, kernel: &[u8], initramfs: &[u8]) -> Vec<u8> {
    let document = json!({
        "schema": "plfm.release-manifest/v1",
        "channel": "production",
        "arch": "x86_64",
        "variant": "standard",
        "kernel": {
            "version": "6.1.50",
            "build_id": format!("a{build}"),
            "sha256": Sha256Digest::of(kernel),
            "config_sha256": "22".repeat(32),
            "size_bytes": kernel.len(),
            "format": "elf-pvh",
        },
        "initramfs": {
            "guest_init_version": "1.0.0",
            "guest_init_protocol": 1,
            "build_id": format!("a{build}"),
            "sha256": Sha256Digest::of(initramfs),
            "size_bytes": initramfs.len(),
        },
        "compatibility": { "min_agent_version": "1.0.0", "supported_protocols": [1] },
        "source": { "git_sha": "4".repeat(40), "dirty": false, "timestamp": "2025-12-17T00:00:00Z" },
    });
    serde_json::to_vec_pretty(&sign(document, &key()).expect("a signable document")).expect("JSON")
}

/// A cache with ten releases, the last one current.
fn ten_releases() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let (cache, _) = Cache::open(dir.path(), trust()).expect("a cache");
    for build in 0..RELEASES {
        let fetched = fetched(&cache, build);
        let installed = stage(&cache, &fetched)
            .install(Timestamp::now())
            .expect("installed");
        cache.set_current(&installed).expect("current");
    }
    dir
}

/// The files of a release and its manifest, as a fetcher has them.
fn fetched(cache: &Cache, build: u32) -> (TempDir, VerifiedManifest) {
    let byte = u8::try_from(build).expect("a small number");
    let (kernel, initramfs) = (vec![byte; KERNEL_BYTES], vec![byte; INITRAMFS_BYTES]);
    let signed = SignedManifest::parse(&manifest(build, &kernel, &initramfs)).expect("a manifest");
    let verified = cache.verify(signed, Timestamp::now()).expect("a good signature");
    let dir = tempfile::tempdir().expect("a directory");
    for (kind, bytes) in [
        (ArtifactKind::Kernel, kernel),
        (ArtifactKind::Initramfs, initramfs),
    ] {
        fs::write(dir.path().join(kind.to_string()), bytes).expect("written");
    }
    (dir, verified)
}

fn stage(cache: &Cache, (dir, manifest): &(TempDir, VerifiedManifest)) -> StagedRelease {
    let mut source = |artifact: &plfm_release::Artifact| {
        let file = File::open(dir.path().join(artifact.kind.to_string()))?;
        Ok(Box::new(file) as Box<dyn Read>)
    };
    cache.stage(manifest, &mut source).expect("staged")
}

fn open(dir: &Path) -> Cache {
    Cache::open(dir, trust()).expect("a cache").0
}

fn boot(cache: &Cache) {
    let current = cache.current().expect("a release").expect("a current one");
    current.open().expect("a whole pair");
}

/// The processor time that this thread has used.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).expect("a time");
    Duration::new(seconds, u32::try_from(now.tv_nsec).expect("less than a second"))
}

/// Benchmarks what `run` does to what `prepare` makes, once by the wall clock and once in processor time, which
/// other work on the machine changes little.
fn bench<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut prepare: impl FnMut() -> T,
    mut run: impl FnMut(&T),
) {
    let mut measured = |clock: &dyn Fn() -> Duration, runs: u64| {
        let mut total = Duration::ZERO;
        for _ in 0..runs {
            let input = prepare();
            let before = clock();
            run(&input);
            total += clock().saturating_sub(before);
        }
        total
    };
    let start = Instant::now();
    group.bench_function(format!("{name}, wall clock"), |bencher| {
        bencher.iter_custom(|runs| measured(&|| start.elapsed(), runs));
    });
    group.bench_function(format!("{name}, processor"), |bencher| {
        bencher.iter_custom(|runs| measured(&processor_time, runs));
    });
}

fn verify(criterion: &mut Criterion) {
    let dir = ten_releases();
    // A file that changed less than two seconds ago is hashed each time.
    thread::sleep(Duration::from_secs(3));
    let mut group = criterion.benchmark_group("cache");
    group.sample_size(50);
    bench(&mut group, "open", || (), |()| drop(open(dir.path())));
    bench(&mut group, "pair_cold", || open(dir.path()), boot);
    let cache = open(dir.path());
    boot(&cache);
    bench(&mut group, "pair_unchanged", || (), |()| boot(&cache));
    let one_more = fetched(&cache, RELEASES);
    bench(&mut group, "stage", || (), |()| drop(stage(&cache, &one_more)));
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
