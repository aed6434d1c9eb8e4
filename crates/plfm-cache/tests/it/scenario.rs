//! Operations that may be interrupted, each with the state before it and what may come of it.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;

use plfm_cache::Cache;
use plfm_release::{ArtifactKind, ReleaseId, Sha256Digest};

use crate::fixtures::{NEXT_KEY, Release, no_source, now, open, overwrite, time};

pub type Outcome = Result<(), Box<dyn Error>>;

/// What is done, to what, and what may come of it.
pub struct Scenario {
    /// Every release that can be in the directory.
    pub releases: Vec<Release>,
    /// Makes the state before.
    pub prepare: fn(&Scenario, &Path),
    /// What is interrupted.
    pub operation: fn(&Scenario, &Cache) -> Outcome,
    /// What may be current afterwards.
    pub current: Vec<Option<ReleaseId>>,
    /// Whether an artifact was lost before.
    pub rotten: bool,
    /// Whether releases are removed and none is installed.
    pub removing: bool,
}

pub fn deliver(release: &Release, cache: &Cache) -> Outcome {
    let installed = release.stage(cache)?.install(now())?;
    cache.set_current(&installed)?;
    Ok(())
}

pub fn first_install() -> Scenario {
    let a = Release::new("a");
    Scenario {
        current: vec![None, Some(a.id())],
        rotten: false,
        removing: false,
        releases: vec![a],
        prepare: |_, dir| drop(open(dir)),
        operation: |scenario, cache| deliver(&scenario.releases[0], cache),
    }
}

/// Without making it current, whose syncs come after those of the installation.
pub fn installation_alone() -> Scenario {
    Scenario {
        current: vec![None],
        operation: |scenario, cache| {
            scenario.releases[0].stage(cache)?.install(now())?;
            Ok(())
        },
        ..first_install()
    }
}

pub fn upgrade_to(b: Release) -> Scenario {
    let a = Release::new("a");
    Scenario {
        current: vec![Some(a.id()), Some(b.id())],
        rotten: false,
        removing: false,
        releases: vec![a, b],
        prepare: |scenario, dir| deliver(&scenario.releases[0], &open(dir)).unwrap(),
        operation: |scenario, cache| deliver(&scenario.releases[1], cache),
    }
}

pub fn upgrade() -> Scenario {
    upgrade_to(Release::new("b"))
}

pub fn upgrade_of_the_initramfs_alone() -> Scenario {
    let a = Release::new("a");
    upgrade_to(Release::of("a", a.kernel, "b", Release::new("b").initramfs))
}

pub fn upgrade_of_the_kernel_alone() -> Scenario {
    let a = Release::new("a");
    upgrade_to(Release::of("b", Release::new("b").kernel, "a", a.initramfs))
}

pub fn rollback() -> Scenario {
    let (a, b) = (Release::new("a"), Release::new("b"));
    Scenario {
        current: vec![Some(a.id()), Some(b.id())],
        rotten: false,
        removing: false,
        releases: vec![a, b],
        prepare: |scenario, dir| {
            let cache = open(dir);
            scenario
                .releases
                .iter()
                .for_each(|release| deliver(release, &cache).unwrap());
        },
        // The bytes are there already.
        operation: |scenario, cache| {
            cache.set_current(&cache.get(&scenario.releases[0].id())?)?;
            Ok(())
        },
    }
}

pub fn reinstall() -> Scenario {
    let a = Release::new("a");
    Scenario {
        current: vec![Some(a.id())],
        rotten: false,
        removing: false,
        releases: vec![a],
        prepare: |scenario, dir| deliver(&scenario.releases[0], &open(dir)).unwrap(),
        operation: |scenario, cache| deliver(&scenario.releases[0], cache),
    }
}

/// The same release, signed with the next key, at a time when the first is not valid any more.
pub fn new_signature() -> Scenario {
    let a = Release::new("a");
    Scenario {
        current: vec![Some(a.id())],
        rotten: false,
        removing: false,
        releases: vec![a],
        prepare: |scenario, dir| deliver(&scenario.releases[0], &open(dir)).unwrap(),
        operation: |scenario, cache| {
            let later = time("2026-08-01T00:00:00Z");
            let arch = plfm_release::Architecture::X86_64;
            let manifest = scenario.releases[0].manifest_for(NEXT_KEY, arch, "production", later);
            cache.stage(&manifest, &mut no_source)?.install(later)?;
            Ok(())
        },
    }
}

/// A kernel that rotted is delivered again.
pub fn repair_of_a_rotten_kernel() -> Scenario {
    let a = Release::new("a");
    Scenario {
        current: vec![Some(a.id())],
        rotten: true,
        removing: false,
        releases: vec![a],
        prepare: |scenario, dir| {
            let a = &scenario.releases[0];
            deliver(a, &open(dir)).unwrap();
            overwrite(&dir.join(a.blob(ArtifactKind::Kernel)), b"rotten");
            assert!(open(dir).get(&a.id()).unwrap().open().is_err());
        },
        operation: |scenario, cache| deliver(&scenario.releases[0], cache),
    }
}
/// The oldest of four goes. One of its artifacts is another's too; a blob that no release has, and one in
/// quarantine, go with it.
pub fn removal() -> Scenario {
    let a = Release::new("a");
    let shares = Release::of("a", a.kernel.clone(), "b", Release::new("b").initramfs);
    let releases = vec![a, shares, Release::new("c"), Release::new("d")];
    Scenario {
        current: vec![Some(releases[3].id())],
        rotten: false,
        removing: true,
        releases,
        prepare: |scenario, dir| {
            let cache = open(dir);
            for release in &scenario.releases {
                deliver(release, &cache).unwrap();
            }
            for folder in [".blobs", ".quarantine"] {
                let lost = Sha256Digest::of(folder.as_bytes()).to_string();
                fs::write(dir.join(folder).join(lost), "lost").unwrap();
            }
        },
        operation: |scenario, cache| remove(cache, &scenario.releases[..1]),
    }
}

/// Two at once.
pub fn removal_of_two() -> Scenario {
    Scenario {
        operation: |scenario, cache| remove(cache, &scenario.releases[..2]),
        ..removal()
    }
}

fn remove(cache: &Cache, releases: &[Release]) -> Outcome {
    let ids: Vec<_> = releases.iter().map(Release::id).collect();
    let removal = cache.gc(&ids, &BTreeSet::new())?;
    assert_eq!((removal.removed, removal.kept), (ids, vec![]));
    Ok(())
}
