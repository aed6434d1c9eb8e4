//! The same image, the same bytes; damage, no disk.

use plfm_rootdisk::{DiskFormat, Image, Limits, Store, StoredImage};

use crate::corpus::cases;
use crate::erofs_reader::of_disk;
use crate::facts::{Tree, differences};
use crate::images::{Layout, Packed, docker_archive, layout, pack, sha256};
use crate::layers::build_layout;
use crate::tarball::{file, tar};

fn build(layers: &[Vec<u8>], packed: Packed) -> (tempfile::TempDir, StoredImage) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layout");
    layout(&path, layers, packed);
    let stored = build_layout(directory.path(), &path, &Limits::default()).unwrap();
    (directory, stored)
}

#[test]
fn the_same_image_gives_the_same_bytes_twice() {
    for case in cases() {
        let [(_one, first), (_other, second)] = [(); 2].map(|()| build(&case.layers, Packed::Gzip));
        assert_eq!(first.disk_digest(), second.disk_digest(), "{}", case.name);
        assert_eq!(
            first.disk_digest().to_string(),
            sha256(&std::fs::read(first.disk_path()).unwrap())
        );
    }
}

/// The tree of a docker archive of these layers.
fn saved(layers: &[Vec<u8>]) -> Tree {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.tar");
    std::fs::write(&path, docker_archive(layers, "app:1")).unwrap();
    let image = Image::from_archive(&path, None, &Limits::default()).unwrap();
    let store = Store::open(&directory.path().join("images")).unwrap();
    of_disk(
        &store
            .build(&image, DiskFormat::Erofs, &Limits::default(), &mut |_| {})
            .unwrap()
            .disk_path(),
    )
}

#[test]
fn gzip_zstd_and_plain_layers_and_docker_archives_hold_the_same_files() {
    for case in cases() {
        let (_directory, stored) = build(&case.layers, Packed::Plain);
        let plain = of_disk(&stored.disk_path());
        for packed in [Packed::Gzip, Packed::Zstd] {
            let (_directory, stored) = build(&case.layers, packed);
            assert_eq!(
                differences(&plain, &of_disk(&stored.disk_path())),
                Vec::<String>::new(),
                "{}",
                case.name
            );
        }
        assert_eq!(
            differences(&plain, &saved(&case.layers)),
            Vec::<String>::new(),
            "{}",
            case.name
        );
    }
}

#[test]
fn every_changed_byte_of_a_stored_layer_is_noticed() {
    let layer = tar(&[file("x", "some data"), file("y", vec![3; 2000])]);
    for packed in [Packed::Plain, Packed::Gzip, Packed::Zstd] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layout");
        layout(&path, std::slice::from_ref(&layer), packed);
        let (stored, _) = pack(&layer, packed);
        let blob = path.join("blobs/sha256").join(sha256(&stored));
        for at in (0..stored.len()).step_by(stored.len().div_ceil(60)) {
            let mut damaged = stored.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&blob, damaged).unwrap();
            let error =
                build_layout(directory.path(), &path, &Limits::default()).expect_err("damage was taken");
            assert_eq!(
                error.code(),
                "image_digest_mismatch",
                "byte {at} of {packed:?}: {error:?}"
            );
        }
        assert!(
            Store::open(&directory.path().join("images"))
                .unwrap()
                .list()
                .unwrap()
                .is_empty()
        );
    }
}

#[test]
fn a_wrong_diff_id_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layout");
    let mut layout = Layout::new(&path);
    let (bytes, media_type) = pack(&tar(&[file("x", "other")]), Packed::Gzip);
    let blob = layout.blob(&bytes, media_type);
    let diff_id = format!("sha256:{}", sha256(b"not this"));
    let config = crate::images::config_json(serde_json::json!({}), &[diff_id]);
    let manifest = layout.manifest(&config, vec![blob]);
    layout.add(manifest, Some("t"));
    let error = build_layout(directory.path(), &path, &Limits::default()).unwrap_err();
    assert_eq!(error.code(), "image_digest_mismatch");
}
