//! Whatever happens to the files of a cache, a boot gets the bytes that were signed, or nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use plfm_cache::Cache;
use plfm_release::ArtifactKind;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::fixtures::{Release, directory, names, open, overwrite, replace, trust};

#[derive(Debug, Clone)]
enum Damage {
    Overwrite(Vec<u8>),
    Replace(Vec<u8>),
    Flip(Index, u8),
    Remove,
    LinkTo(Index),
    Exchange(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let content = prop::collection::vec(any::<u8>(), 0..64);
    prop_oneof![
        content.clone().prop_map(Damage::Overwrite),
        content.prop_map(Damage::Replace),
        (any::<Index>(), 0u8..8).prop_map(|(byte, bit)| Damage::Flip(byte, bit)),
        Just(Damage::Remove),
        any::<Index>().prop_map(Damage::LinkTo),
        any::<Index>().prop_map(Damage::Exchange),
    ]
}

fn apply(dir: &Path, which: Index, damage: &Damage) {
    let paths: Vec<PathBuf> = names(dir).into_iter().map(|name| dir.join(name)).collect();
    let path = which.get(&paths);
    let is_file = path.symlink_metadata().unwrap().is_file();
    match damage {
        Damage::Overwrite(content) if is_file => overwrite(path, content),
        Damage::Flip(byte, bit) if is_file => {
            let mut content = fs::read(path).unwrap();
            if !content.is_empty() {
                let byte = byte.index(content.len());
                content[byte] ^= 1 << bit;
                overwrite(path, &content);
            }
        }
        Damage::Overwrite(content) | Damage::Replace(content) => replace(path, content),
        Damage::Flip(..) => {}
        Damage::Remove => fs::remove_file(path).unwrap(),
        Damage::LinkTo(other) => {
            let target = other.get(&paths).clone();
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
        }
        Damage::Exchange(other) => {
            let (other, aside) = (other.get(&paths), dir.join("aside"));
            fs::rename(path, &aside).unwrap();
            if other != path {
                fs::rename(other, path).unwrap();
            }
            fs::rename(aside, other).unwrap();
        }
    }
}

/// No release hands out other bytes than its own.
fn check(cache: &Cache, releases: &[Release]) {
    for release in releases {
        let Ok(installed) = cache.get(&release.id()) else {
            continue;
        };
        let Ok(pair) = installed.open() else { continue };
        for (kind, file) in [
            (ArtifactKind::Kernel, pair.kernel),
            (ArtifactKind::Initramfs, pair.initramfs),
        ] {
            assert_eq!(io::read_to_string(file).unwrap().as_bytes(), release.bytes(kind));
        }
    }
    if let Ok(Some(current)) = cache.current() {
        assert!(releases.iter().any(|release| release.id() == *current.id()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_is_found_or_harmless_and_a_new_delivery_mends_it(
        damages in prop::collection::vec((any::<Index>(), damage()), 1..5),
        removes in any::<bool>(),
    ) {
        let dir = directory();
        let releases = [Release::new("a"), Release::new("b")];
        let cache = open(dir.path());
        for release in &releases {
            cache.set_current(&release.install(&cache)).unwrap();
        }
        for (which, damage) in &damages {
            if !names(dir.path()).is_empty() {
                apply(dir.path(), *which, damage);
            }
        }
        if removes {
            // What is current stays, unless the damage made nothing current.
            let _ = cache.gc(&releases.each_ref().map(Release::id), &Default::default());
        }
        // In the process that runs, and in the one that starts next.
        check(&cache, &releases);
        drop(cache);
        let (cache, _) = Cache::open(dir.path(), trust()).unwrap();
        check(&cache, &releases);
        for release in &releases {
            let installed = release.stage(&cache).unwrap().install(crate::fixtures::now()).unwrap();
            installed.open().unwrap();
            cache.set_current(&installed).unwrap();
            prop_assert_eq!(cache.current().unwrap().unwrap().id().clone(), release.id());
        }
    }
}
