//! Which image is found, and which is not.

use std::fs;
use std::path::Path;

use plfm_rootdisk::{Image, Limits, ResolveError};
use serde_json::{Value, json};

use crate::images::{INDEX, LAYER, Layout, MANIFEST, Packed, config_json, docker_archive, pack, sha256};
use crate::tarball::{Entry, file, symlink, tar};

fn find(path: &Path, name: Option<&str>) -> Result<Image, ResolveError> {
    Image::from_layout(path, name, &Limits::default())
}

fn code(result: Result<Image, ResolveError>) -> &'static str {
    result.expect_err("it was taken").code()
}

fn layer(name: &str) -> Vec<u8> {
    tar(&[file(name, "x")])
}

fn for_platform(mut descriptor: Value, os: &str, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    descriptor
}

/// A layout whose index holds an index for two platforms and an attestation.
fn multi_platform(path: &Path, ours: bool) -> String {
    let mut layout = Layout::new(path);
    let amd64 = layout.image(&[layer("amd64")], Packed::Gzip, json!({"Cmd": ["/amd64"]}));
    let arm64 = layout.image(&[layer("arm64")], Packed::Gzip, json!({}));
    let digest = amd64["digest"].as_str().unwrap().to_owned();
    let mut manifests = vec![
        for_platform(arm64.clone(), "linux", "arm64"),
        for_platform(arm64, "unknown", "unknown"),
    ];
    if ours {
        manifests.push(for_platform(amd64, "linux", "amd64"));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let index = layout.blob(&serde_json::to_vec(&index).unwrap(), INDEX);
    layout.add(index, Some("t"));
    digest
}

#[test]
fn an_index_leads_to_linux_on_amd64() {
    let directory = tempfile::tempdir().unwrap();
    let digest = multi_platform(directory.path(), true);
    let image = find(directory.path(), None).unwrap();
    assert_eq!(format!("sha256:{}", image.digest()), digest);
    assert_eq!(image.defaults().cmd, ["/amd64"]);
}

#[test]
fn an_image_for_other_platforms_is_refused_with_their_names() {
    let directory = tempfile::tempdir().unwrap();
    multi_platform(directory.path(), false);
    let error = find(directory.path(), None).unwrap_err();
    assert_eq!(error.code(), "image_platform");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("linux/arm64"), "{cause}");
}

#[test]
fn a_configuration_for_another_platform_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(directory.path());
    let mut config = config_json(json!({}), &[]);
    config["architecture"] = json!("arm64");
    let manifest = layout.manifest(&config, vec![]);
    layout.add(manifest, None);
    assert_eq!(code(find(directory.path(), None)), "image_platform");
}

#[test]
fn of_several_images_one_must_be_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(directory.path());
    for name in ["a", "b"] {
        let image = layout.image(&[layer(name)], Packed::Plain, json!({"Cmd": [name]}));
        layout.add(image, Some(name));
    }
    assert_eq!(code(find(directory.path(), None)), "image_not_found");
    assert_eq!(code(find(directory.path(), Some("c"))), "image_not_found");
    assert_eq!(find(directory.path(), Some("b")).unwrap().defaults().cmd, ["b"]);
}

/// Changes what a digest leads to.
fn tamper(path: &Path, descriptor: &Value, change: impl FnOnce(&mut Vec<u8>)) {
    let blob = path
        .join("blobs/sha256")
        .join(&descriptor["digest"].as_str().unwrap()[7..]);
    let mut bytes = fs::read(&blob).unwrap();
    change(&mut bytes);
    fs::write(blob, bytes).unwrap();
}

#[test]
fn changed_manifests_and_configurations_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(directory.path());
    let image = layout.image(&[layer("x")], Packed::Plain, json!({}));
    layout.add(image.clone(), None);
    let manifest = fs::read(
        directory
            .path()
            .join("blobs/sha256")
            .join(&image["digest"].as_str().unwrap()[7..]),
    )
    .unwrap();
    let config = serde_json::from_slice::<Value>(&manifest).unwrap()["config"].clone();
    for descriptor in [&image, &config] {
        tamper(directory.path(), descriptor, |bytes| bytes.push(b' '));
        assert_eq!(code(find(directory.path(), None)), "image_digest_mismatch");
        tamper(directory.path(), descriptor, |bytes| {
            bytes.truncate(bytes.len() - 1)
        });
        tamper(directory.path(), descriptor, |bytes| {
            *bytes.last_mut().unwrap() = b' '
        });
        assert_eq!(code(find(directory.path(), None)), "image_digest_mismatch");
        tamper(directory.path(), descriptor, |bytes| {
            *bytes.last_mut().unwrap() = b'}'
        });
    }
    find(directory.path(), None).unwrap();
}

#[test]
fn a_layer_of_another_size_or_none_at_all_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(directory.path());
    let layer = layer("x");
    let image = layout.image(std::slice::from_ref(&layer), Packed::Plain, json!({}));
    layout.add(image, None);
    let blob = directory.path().join("blobs/sha256").join(sha256(&layer));
    fs::write(&blob, &layer[..512]).unwrap();
    assert_eq!(code(find(directory.path(), None)), "image_digest_mismatch");
    fs::remove_file(&blob).unwrap();
    assert_eq!(code(find(directory.path(), None)), "image_incomplete");
}

#[test]
fn manifests_with_two_meanings_foreign_types_and_old_schemas_are_refused() {
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": format!("sha256:{}", sha256(b"")), "size": 0});
    let layer_of = |media_type: &str| json!([{"mediaType": media_type, "digest": format!("sha256:{}", sha256(b"")), "size": 0}]);
    let cases = [
        (
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [], "manifests": []}),
            "image_malformed",
        ),
        (json!({"schemaVersion": 1, "fsLayers": []}), "image_unsupported"),
        (
            json!({"schemaVersion": 2, "mediaType": "application/x", "config": config, "layers": []}),
            "image_unsupported",
        ),
        (
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layer_of("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")}),
            "image_unsupported",
        ),
        (
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": config["digest"], "size": 2}, "layers": []}),
            "image_unsupported",
        ),
        (
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": config["mediaType"], "digest": "sha512:00", "size": 2}, "layers": []}),
            "image_malformed",
        ),
        (
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": vec![layer_of(LAYER)[0].clone(); 600]}),
            "image_limit",
        ),
        (json!([]), "image_malformed"),
    ];
    for (manifest, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let mut layout = Layout::new(directory.path());
        let descriptor = layout.blob(&serde_json::to_vec(&manifest).unwrap(), MANIFEST);
        layout.add(descriptor, None);
        assert_eq!(code(find(directory.path(), None)), expected, "{manifest}");
    }
}

#[test]
fn layers_and_diff_ids_must_be_as_many() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(directory.path());
    let (bytes, media_type) = pack(&layer("x"), Packed::Plain);
    let blob = layout.blob(&bytes, media_type);
    let manifest = layout.manifest(&config_json(json!({}), &[]), vec![blob]);
    layout.add(manifest, None);
    assert_eq!(code(find(directory.path(), None)), "image_malformed");
}

#[test]
fn an_image_larger_than_is_taken_is_refused_before_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(directory.path());
    let image = layout.image(&[layer("x")], Packed::Plain, json!({}));
    layout.add(image, None);
    let limits = Limits {
        compressed_bytes_max: 100,
        ..Limits::default()
    };
    assert_eq!(
        code(Image::from_layout(directory.path(), None, &limits)),
        "image_limit"
    );
}

#[test]
fn a_docker_archive_is_found_by_any_form_of_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.tar");
    fs::write(&path, docker_archive(&[layer("x")], "app:1")).unwrap();
    let find = |name| Image::from_archive(&path, name, &Limits::default());
    let digest = find(None).unwrap().digest();
    for name in ["app:1", "docker.io/library/app:1"] {
        assert_eq!(find(Some(name)).unwrap().digest(), digest);
    }
    assert_eq!(code(find(Some("app:2"))), "image_not_found");
}

#[test]
fn links_between_an_archives_members_stay_in_it() {
    let good = docker_archive(&[layer("x")], "app:1");
    let manifest = |config: &str| json!([{"Config": config, "RepoTags": null, "Layers": []}]);
    let config = serde_json::to_vec(&config_json(json!({}), &[])).unwrap();
    let linked = |target: &str| {
        let entries: Vec<Entry> = vec![
            file(
                "manifest.json",
                serde_json::to_vec(&manifest("a/config.json")).unwrap(),
            ),
            file("real.json", &config),
            symlink("a/config.json", target),
        ];
        tar(&entries)
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.tar");
    let find = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Image::from_archive(&path, None, &Limits::default())
    };
    find(&good).unwrap();
    find(&linked("../real.json")).unwrap();
    assert_eq!(code(find(&linked("/etc/hostname"))), "image_incomplete");
    assert_eq!(code(find(&linked("config.json"))), "image_incomplete");
}

#[test]
fn compressed_archives_and_other_files_are_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.tar");
    for bytes in [&[0x1f, 0x8b, 8, 0][..], b"", &[7; 2000]] {
        fs::write(&path, bytes).unwrap();
        assert!(
            ["image_malformed", "image_incomplete"].contains(&code(Image::from_archive(
                &path,
                None,
                &Limits::default()
            )))
        );
    }
}

#[test]
fn a_configurations_environment_is_in_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(directory.path());
    let manifest = layout.manifest(&config_json(json!({"Env": "SECRET=hunter2"}), &[]), vec![]);
    layout.add(manifest, None);
    let error = find(directory.path(), None).unwrap_err();
    assert!(!format!("{error:?}").contains("hunter2"));
}
