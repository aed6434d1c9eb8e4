//! The store: once, whole, and not removed under anyone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use plfm_rootdisk::{DiskFormat, Image, Limits, Step, Store};

use crate::images::{Packed, layout};
use crate::tarball::{file, tar};

fn image(directory: &Path, content: &str) -> Image {
    let path = directory.join(format!("layout-{content}"));
    layout(&path, &[tar(&[file("x", content)])], Packed::Gzip);
    Image::from_layout(&path, None, &Limits::default()).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_disk_is_built_once_and_is_read_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("images")).unwrap();
    let image = image(directory.path(), "a");
    let mut steps = Vec::new();
    let first = store
        .build(&image, DiskFormat::Erofs, &Limits::default(), &mut |step| {
            steps.push(step)
        })
        .unwrap();
    assert_eq!(steps, [Step::Layer { number: 1, count: 1 }, Step::Write]);
    steps.clear();
    let second = store
        .build(&image, DiskFormat::Erofs, &Limits::default(), &mut |step| {
            steps.push(step)
        })
        .unwrap();
    assert!(steps.is_empty());
    assert_eq!(first.key(), second.key());
    assert_eq!(
        fs::metadata(first.disk_path()).unwrap().permissions().mode() & 0o777,
        0o444
    );
    assert_eq!(first.defaults().cmd, ["/bin/sh"]);
    assert_eq!(
        names(&directory.path().join("images/.staging")),
        Vec::<String>::new()
    );
}

#[test]
fn of_two_builders_at_once_one_works() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("images")).unwrap();
    let image = image(directory.path(), "a");
    let writes = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut on_step = |step| *writes.lock().unwrap() += u32::from(step == Step::Write);
                store
                    .build(&image, DiskFormat::Erofs, &Limits::default(), &mut on_step)
                    .unwrap();
            });
        }
    });
    assert_eq!(*writes.lock().unwrap(), 1);
}

#[test]
fn gc_keeps_what_is_in_use_and_what_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("images")).unwrap();
    let build = |content: &str| {
        let image = image(directory.path(), content);
        store
            .build(&image, DiskFormat::Erofs, &Limits::default(), &mut |_| {})
            .unwrap()
    };
    let (used, held, free) = (build("used").key(), build("held"), build("free").key());
    store.remember("free:1", free.image).unwrap();
    store.remember("used:1", used.image).unwrap();
    let removed = store.gc(&BTreeSet::from([used])).unwrap();
    assert_eq!((removed.removed, removed.held), (vec![free], vec![held.key()]));
    assert!(removed.bytes > 0);
    assert_eq!(store.names().unwrap().keys().collect::<Vec<_>>(), ["used:1"]);
    assert_eq!(store.meaning("used:1").unwrap(), Some(used.image));
    assert_eq!(store.meaning("free:1").unwrap(), None);
    let held_key = held.key();
    drop(held);
    assert_eq!(store.gc(&BTreeSet::from([used])).unwrap().removed, [held_key]);
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn what_a_cut_build_left_is_no_disk_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("images");
    let store = Store::open(&root).unwrap();
    let image = image(directory.path(), "a");
    let key = store
        .build(&image, DiskFormat::Erofs, &Limits::default(), &mut |_| {})
        .unwrap()
        .key();
    store.gc(&BTreeSet::new()).unwrap();
    // As a crash leaves it: staged, not renamed.
    let staged = root.join(".staging").join(key.to_string());
    fs::create_dir_all(staged.join("entry")).unwrap();
    fs::write(staged.join("entry/disk"), "half").unwrap();
    assert!(store.list().unwrap().is_empty());
    store.gc(&BTreeSet::new()).unwrap();
    assert_eq!(names(&root.join(".staging")), Vec::<String>::new());
    fs::create_dir_all(staged.join("entry")).unwrap();
    let stored = store
        .build(&image, DiskFormat::Erofs, &Limits::default(), &mut |_| {})
        .unwrap();
    assert_eq!(stored.key(), key);
}

#[test]
fn a_damaged_entry_is_not_there_and_is_built_again() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("images");
    let store = Store::open(&root).unwrap();
    let image = image(directory.path(), "a");
    let build = || {
        store
            .build(&image, DiskFormat::Erofs, &Limits::default(), &mut |_| {})
            .unwrap()
    };
    let stored = build();
    let (key, disk) = (stored.key(), stored.disk_path());
    drop(stored);
    for name in ["record.json", "config.json", "disk"] {
        let path = disk.with_file_name(name);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(store.get(&key).unwrap().is_none(), "{name}");
        build();
        assert!(store.get(&key).unwrap().is_some(), "{name}");
    }
}
