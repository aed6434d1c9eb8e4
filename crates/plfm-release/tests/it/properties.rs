//! Facts about all manifests and all bytes.

use plfm_release::{Keyring, Manifest, SignedManifest, parse_strict_json, signed_bytes};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::fixtures::{document, keyring, policy, signed, verify, with};

fn digest() -> impl Strategy<Value = String> {
    "[0-9a-f]{64}"
}

/// Every manifest that a production x86_64 host takes, about.
fn any_document() -> impl Strategy<Value = Value> {
    let kernel = (
        "[1-9]\\.[0-9]{1}\\.[1-9][0-9]{0,2}(-rc[1-9])?",
        "[a-z0-9]{1,32}",
        digest(),
        1_u64..=256 << 20,
    );
    let initramfs = (
        "[0-9]\\.[0-9]\\.[0-9](-[a-z]{1,5}(\\.[1-9])?)?",
        "[a-z0-9]{1,32}",
        digest(),
        1_u64..=256 << 20,
    );
    let protocols = prop::collection::btree_set(any::<u32>(), 1..4);
    (
        kernel,
        initramfs,
        protocols,
        any::<Index>(),
        "\\PC{0,20}",
        any::<bool>(),
    )
        .prop_map(|(kernel, initramfs, protocols, spoken, git_sha, dirty)| {
            let protocols: Vec<u32> = protocols.into_iter().collect();
            let mut document = document();
            for (pointer, value) in [
                ("/kernel/version", json!(kernel.0)),
                ("/kernel/build_id", json!(kernel.1)),
                ("/kernel/sha256", json!(kernel.2)),
                ("/kernel/size_bytes", json!(kernel.3)),
                ("/initramfs/guest_init_version", json!(initramfs.0)),
                ("/initramfs/build_id", json!(initramfs.1)),
                ("/initramfs/sha256", json!(initramfs.2)),
                ("/initramfs/size_bytes", json!(initramfs.3)),
                ("/initramfs/guest_init_protocol", json!(spoken.get(&protocols))),
                ("/compatibility/supported_protocols", json!(protocols)),
                ("/source/git_sha", json!(git_sha)),
                ("/source/dirty", json!(dirty)),
            ] {
                document = with(document, pointer, value);
            }
            document
        })
}

proptest! {
    #[test]
    fn a_signed_manifest_verifies_and_says_what_was_signed(document in any_document()) {
        let verified = verify(signed(document.clone()).to_string().as_bytes(), &policy()).unwrap();
        let manifest = verified.manifest();
        prop_assert_eq!(manifest, &serde_json::from_value::<Manifest>(document.clone()).unwrap());
        prop_assert_eq!(serde_json::to_value(manifest).unwrap(), document);
        for artifact in manifest.artifacts() {
            let name = artifact.name.to_string();
            prop_assert!(!name.contains(['/', '\n', '\0']) && !name.starts_with('.') && name.len() < 200);
        }
    }

    #[test]
    fn parsing_any_bytes_ends_in_a_value_or_an_error(bytes: Vec<u8>) {
        let _ = SignedManifest::parse(&bytes);
        let _ = Keyring::parse(&bytes);
    }

    #[test]
    fn parsing_anything_like_json_ends_in_a_value_or_an_error(text in r#"[\[\]{}:,"a-c0-9eE+\-.\\u \n]{0,200}"#) {
        let _ = SignedManifest::parse(text.as_bytes());
        let _ = Keyring::parse(text.as_bytes());
    }

    #[test]
    fn a_manifest_that_was_spliced_is_refused_or_the_same_document(
        at: Index,
        removed in 0usize..4,
        inserted in prop_oneof![any::<Vec<u8>>(), r#"[{}\[\]",: 0-9a-f]{0,6}"#.prop_map(String::into_bytes)],
    ) {
        let original = signed(document()).to_string().into_bytes();
        let at = at.index(original.len());
        let mut bytes = original.clone();
        bytes.splice(at..(at + removed).min(original.len()), inserted);
        if let Ok(verified) = verify(&bytes, &policy()) {
            let document = parse_strict_json(verified.as_bytes()).unwrap();
            prop_assert_eq!(document, parse_strict_json(&original).unwrap());
        }
    }

    #[test]
    fn a_keyring_file_that_was_spliced_is_read_or_refused(at: Index, removed in 0usize..4, inserted: Vec<u8>) {
        let mut bytes = keyring().render().into_bytes();
        let at = at.index(bytes.len());
        let end = (at + removed).min(bytes.len());
        bytes.splice(at..end, inserted);
        let _ = Keyring::parse(&bytes);
    }

    #[test]
    fn the_signed_bytes_are_a_fixed_point(document in any_document()) {
        let bytes = signed_bytes(&signed(document)).unwrap();
        prop_assert_eq!(signed_bytes(&parse_strict_json(&bytes).unwrap()).unwrap(), bytes);
    }
}
