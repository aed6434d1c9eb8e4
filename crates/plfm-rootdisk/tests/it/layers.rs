//! Build helpers for tests, and what layers are refused for.

use std::path::Path;

use plfm_rootdisk::{DiskFormat, Image, Limits, Store, StoreError, StoredImage};

use crate::erofs_reader::of_disk;
use crate::facts::Tree;
use crate::images::{Packed, layout, sha256};
use crate::sparse::{old_sparse_contents, old_sparse_files};
use crate::tarball::{Entry, dir, entry, file, hardlink, symlink, tar, whiteout};

pub fn build_layout(directory: &Path, path: &Path, limits: &Limits) -> Result<StoredImage, StoreError> {
    let image = Image::from_layout(path, Some("t"), limits).unwrap();
    let store = Store::open(&directory.join("images")).unwrap();
    store.build(&image, DiskFormat::Erofs, limits, &mut |_| {})
}

pub fn build(layers: &[Vec<u8>], limits: &Limits) -> Result<Tree, StoreError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layout");
    layout(&path, layers, Packed::Plain);
    Ok(of_disk(
        &build_layout(directory.path(), &path, limits)?.disk_path(),
    ))
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn refusal_with(layers: &[Vec<u8>], limits: &Limits) -> (&'static str, String) {
    let error = build(layers, limits).expect_err("it was taken");
    (error.code(), chain(&error))
}

fn refusal(entries: &[Entry]) -> (&'static str, String) {
    refusal_with(&[tar(entries)], &Limits::default())
}

fn is_refused(entries: &[Entry], code: &str, word: &str) {
    let (found, text) = refusal(entries);
    assert_eq!(found, code, "{text}");
    assert!(text.contains(word), "{text}");
}

#[test]
fn absolute_and_parent_paths_are_refused() {
    is_refused(&[file("/etc/x", "")], "layer_refused", "is absolute");
    is_refused(&[file("../x", "")], "layer_refused", "\"..\"");
    is_refused(&[dir("a"), file("a/../../x", "")], "layer_refused", "\"..\"");
    is_refused(&[whiteout("../.wh.x")], "layer_refused", "\"..\"");
    is_refused(
        &[file("x", "").pax("path", "/abs")],
        "layer_refused",
        "is absolute",
    );
}

#[test]
fn hard_links_out_of_the_image_or_to_nothing_are_refused() {
    is_refused(
        &[hardlink("x", "../../etc/passwd")],
        "layer_refused",
        "target has a \"..\"",
    );
    is_refused(
        &[hardlink("x", "/etc/passwd")],
        "layer_refused",
        "target is absolute",
    );
    is_refused(&[hardlink("x", "nowhere")], "layer_refused", "does not exist");
    is_refused(&[dir("d"), hardlink("x", "d")], "layer_refused", "is a directory");
    is_refused(
        &[file("x", ""), hardlink("x", "./x")],
        "layer_refused",
        "is the link itself",
    );
    is_refused(
        &[symlink("out", "/etc"), hardlink("x", "out/passwd")],
        "layer_refused",
        "does not exist",
    );
}

#[test]
fn a_path_below_a_file_or_through_a_loop_is_refused() {
    is_refused(
        &[file("f", ""), file("f/x", "")],
        "layer_refused",
        "not a directory",
    );
    is_refused(
        &[symlink("a", "b"), symlink("b", "a"), file("a/x", "")],
        "image_limit",
        "symbolic links",
    );
}

#[test]
fn a_root_that_is_no_directory_is_refused() {
    is_refused(
        &[symlink("./", "/etc")],
        "layer_refused",
        "root is not a directory",
    );
    is_refused(&[file(".", "x")], "layer_refused", "root is not a directory");
}

#[test]
fn whiteouts_of_nothing_nameable_are_refused() {
    for name in [".wh.", ".wh..", ".wh..."] {
        is_refused(&[whiteout(name)], "layer_refused", "whiteout");
    }
}

#[test]
fn names_paths_and_depths_past_their_limits_are_refused() {
    is_refused(&[file("n".repeat(256), "")], "image_limit", "255 bytes");
    is_refused(
        &[file("d/".repeat(129) + "x", "")],
        "image_limit",
        "directories deep",
    );
    is_refused(&[file("abc/".repeat(1100), "")], "image_limit", "4095 bytes");
    is_refused(
        &[file("x", "").xattr("user.a", vec![0; 70_000])],
        "image_limit",
        "attributes",
    );
    is_refused(&[symlink("x", "")], "layer_refused", "target is empty");
}

#[test]
fn devices_that_linux_does_not_have_are_refused() {
    let far = Entry {
        device: (5000, 0),
        ..entry(b'3', "x")
    };
    is_refused(&[far], "layer_refused", "numbers");
}

#[test]
fn archives_that_are_none_are_refused() {
    let good = tar(&[file("x", "data")]);
    let mut bad_checksum = good.clone();
    bad_checksum[0] = b'y';
    let cut = good[..514].to_vec();
    for (layer, word) in [
        (bad_checksum, "checksum"),
        (cut, "ends within"),
        (tar(&[entry(b'M', "x")]), "not supported"),
    ] {
        let (code, text) = refusal_with(&[layer], &Limits::default());
        assert_eq!(code, "layer_malformed", "{text}");
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn bombs_are_refused_by_each_limit() {
    let zeros = tar(&[file("x", vec![0; 1 << 20])]);
    let small = Limits {
        unpacked_bytes_max: 1 << 19,
        ..Limits::default()
    };
    assert!(
        refusal_with(std::slice::from_ref(&zeros), &small)
            .1
            .contains("more than 524288 bytes")
    );
    // Layers share one budget.
    let shared = Limits {
        unpacked_bytes_max: 3 << 19,
        ..Limits::default()
    };
    assert_eq!(refusal_with(&[zeros.clone(), zeros], &shared).0, "image_limit");
    let few = Limits {
        entries_max: 3,
        ..Limits::default()
    };
    let entries: Vec<Entry> = (0..4).map(|n| file(format!("{n}"), "")).collect();
    assert!(refusal_with(&[tar(&entries)], &few).1.contains("3 entries"));
    let short = Limits {
        metadata_bytes_max: 100,
        ..Limits::default()
    };
    assert!(
        refusal_with(&[tar(&[file("n".repeat(120), "")])], &short)
            .1
            .contains("100 bytes of paths")
    );
}

#[test]
fn a_layer_that_unpacks_to_far_more_than_it_is_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layout");
    let zeros = tar(&[file("x", vec![0; 300 << 20])]);
    layout(&path, &[zeros], Packed::Zstd);
    let error = build_layout(directory.path(), &path, &Limits::default()).expect_err("it was taken");
    assert_eq!(error.code(), "image_limit");
    assert!(chain(&error).contains("200 times"), "{}", chain(&error));
}

#[test]
fn attributes_without_a_place_in_linux_are_dropped_and_counted() {
    let entries = [file("x", "")
        .xattr("com.example.tag", "1")
        .xattr("trusted.overlay.opaque", "y")
        .xattr("user.kept", "1")];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layout");
    layout(&path, &[tar(&entries)], Packed::Gzip);
    let stored = build_layout(directory.path(), &path, &Limits::default()).unwrap();
    assert_eq!(stored.dropped_xattrs(), 2);
    let tree = of_disk(&stored.disk_path());
    assert_eq!(tree[&b"/x"[..]].xattrs.keys().collect::<Vec<_>>(), [b"user.kept"]);
}

#[test]
fn a_whiteout_spares_its_own_layer_whatever_the_order() {
    let lower = tar(&[dir("d"), file("d/old", "1"), file("f", "1")]);
    for upper in [
        [
            whiteout(".wh.d"),
            dir("d"),
            file("d/new", "2"),
            whiteout(".wh.f"),
            file("f", "2"),
        ],
        [
            dir("d"),
            file("d/new", "2"),
            whiteout(".wh.d"),
            file("f", "2"),
            whiteout(".wh.f"),
        ],
    ] {
        let tree = build(&[lower.clone(), tar(&upper)], &Limits::default()).unwrap();
        let names: Vec<String> = tree.keys().map(|name| name.escape_ascii().to_string()).collect();
        assert_eq!(names, ["", "/d", "/d/new", "/f"]);
    }
}

#[test]
fn sparse_files_of_gnus_old_format_have_their_holes_as_zeros() {
    let tree = build(&[tar(&old_sparse_files())], &Limits::default()).unwrap();
    for (path, content) in old_sparse_contents() {
        let facts = &tree[path.as_bytes()];
        assert_eq!(
            (facts.size, &facts.digest),
            (content.len() as u64, &sha256(&content)),
            "{path}"
        );
    }
}

#[test]
fn files_of_every_size_around_a_block_keep_their_bytes() {
    let sizes = [
        0usize, 1, 2047, 2048, 2049, 3967, 4032, 4095, 4096, 4097, 6144, 6145, 8192, 70_000,
    ];
    let content = |size: usize| (0..size).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
    let entries: Vec<Entry> = sizes
        .iter()
        .map(|size| file(format!("{size}"), content(*size)))
        .collect();
    let tree = build(&[tar(&entries)], &Limits::default()).unwrap();
    for size in sizes {
        let facts = &tree[format!("/{size}").as_bytes()];
        assert_eq!(
            (facts.size, &facts.digest),
            (size as u64, &sha256(&content(size))),
            "{size}"
        );
    }
}

#[test]
fn aufs_bookkeeping_is_passed_over() {
    let tree = build(
        &[tar(&[whiteout(".wh..wh.plnk"), whiteout(".wh..wh.aufs")])],
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(tree.len(), 1);
}
