//! What is a manifest at all. Every document here is signed by a good key, so it is its shape that is refused.

use std::error::Error as _;

use plfm_release::{MANIFEST_BYTES_MAX, SignedManifest};
use serde_json::{Value, json};

use crate::fixtures::{document, policy, refusal, refusal_of_bytes, signed, verify, with};

#[test]
fn a_manifest_with_duplicate_keys_is_refused_at_every_level() {
    let text = signed(document()).to_string();
    for (member, again) in [
        (r#""arch":"x86_64""#, r#""arch":"aarch64""#),
        (r#""format":"elf-pvh""#, r#""format":"bzimage""#),
        (r#""signature":""#, r#""signature":"","signature":""#),
        // The same key in another spelling.
        (r#""arch":"x86_64""#, r#""\u0061rch":"x86_64""#),
    ] {
        let doubled = text.replacen(member, &format!("{again},{member}"), 1);
        assert_ne!(doubled, text);
        assert_eq!(
            refusal_of_bytes(doubled.as_bytes()),
            "manifest_not_json",
            "{again}"
        );
        let error = SignedManifest::parse(doubled.as_bytes()).unwrap_err();
        let reason = error.source().unwrap().source().unwrap().to_string();
        assert!(reason.contains("appears twice"), "{reason}");
    }
}

#[test]
fn numbers_that_are_no_integers_are_refused() {
    let text = signed(document()).to_string();
    for number in [
        "18000000.0",
        "1.8e7",
        "18E6",
        "1e400",
        "-0",
        "9007199254740993",
        "018000000",
        "0x10",
        "NaN",
    ] {
        let text = text.replacen("18000000", number, 1);
        assert_eq!(refusal_of_bytes(text.as_bytes()), "manifest_not_json", "{number}");
    }
    // Where this version knows no member, too.
    let text = text.replacen('{', r#"{"future":0.5,"#, 1);
    assert_eq!(refusal_of_bytes(text.as_bytes()), "manifest_not_json");
}

#[test]
fn bytes_that_are_no_json_are_refused() {
    let text = signed(document()).to_string();
    let cases: [Vec<u8>; 8] = [
        b"".to_vec(),
        b"\0".to_vec(),
        text.as_bytes()[..text.len() - 1].to_vec(),
        format!("{text}x").into_bytes(),
        format!("{text}{text}").into_bytes(),
        format!("\u{feff}{text}").into_bytes(),
        text.replace('"', "'").into_bytes(),
        text.replacen("standard", "stand\u{7f}ard", 1).into_bytes(),
    ];
    for bytes in cases {
        assert_eq!(
            refusal_of_bytes(&bytes),
            "manifest_not_json",
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    let latin1 = [text.as_bytes(), b"\xe9"].concat();
    assert_eq!(refusal_of_bytes(&latin1), "manifest_not_json");
    let deep = text.replacen(
        '{',
        &format!(r#"{{"future":{}{},"#, "[".repeat(20), "]".repeat(20)),
        1,
    );
    assert_eq!(refusal_of_bytes(deep.as_bytes()), "manifest_not_json");
}

#[test]
fn an_unknown_schema_is_refused_and_named() {
    for schema in [
        json!("plfm.release-manifest/v2"),
        json!("plfm.release-manifest/v1 "),
        json!("PLFM.RELEASE-MANIFEST/V1"),
        json!("plfm.keyring/v1"),
        json!(""),
        json!(1),
        json!(null),
        json!(["plfm.release-manifest/v1"]),
    ] {
        let bytes = signed(with(document(), "/schema", schema.clone())).to_string();
        let error = SignedManifest::parse(bytes.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "manifest_unknown_schema");
        assert!(error.to_string().contains(&schema.to_string()), "{error}");
    }
    for text in ["[]", "1", "null", "\"plfm.release-manifest/v1\"", "{}"] {
        assert_eq!(
            refusal_of_bytes(text.as_bytes()),
            "manifest_unknown_schema",
            "{text}"
        );
    }
}

#[test]
fn names_that_are_no_names_are_refused() {
    let bad_build_ids = [
        "",
        "..",
        ".",
        "a/b",
        "/etc",
        "a\nb",
        "a\0b",
        "a b",
        "a-b",
        "A",
        "ä",
        "../../etc/passwd",
    ];
    for id in bad_build_ids {
        for pointer in ["/kernel/build_id", "/initramfs/build_id"] {
            assert_malformed(pointer, json!(id));
        }
    }
    assert_malformed("/kernel/build_id", json!("a".repeat(33)));
    for version in [
        "",
        "..",
        "6",
        "6.1.50/..",
        "6.1.50\n",
        "../6.1",
        "6.1.50-",
        "6.1.50-rc",
        "06.1",
        "6.1.50.1",
        "6..1",
    ] {
        assert_malformed("/kernel/version", json!(version));
    }
    for version in [
        "",
        "..",
        "1.0",
        "1.0.0/..",
        "1.0.0\n",
        "1.0.0+x",
        "1.0.0-../x",
        "v1.0.0",
        "1.0.0-\u{0}",
    ] {
        assert_malformed("/initramfs/guest_init_version", json!(version));
    }
    assert_malformed(
        "/initramfs/guest_init_version",
        json!(format!("1.0.0-{}", "a".repeat(48))),
    );
    for channel in [
        "",
        "..",
        "a/b",
        "a\n",
        "Production",
        "production ",
        &"a".repeat(33),
    ] {
        assert_malformed("/channel", json!(channel));
    }
}

#[test]
fn digests_are_64_lowercase_hexadecimal_digits() {
    let good = "ab".repeat(32);
    for digest in [
        &good[1..],
        &format!("{good}a"),
        &good.to_uppercase(),
        &format!("sha256:{good}"),
        &"g".repeat(64),
        "",
    ] {
        for pointer in ["/kernel/sha256", "/kernel/config_sha256", "/initramfs/sha256"] {
            assert_malformed(pointer, json!(digest));
        }
    }
}

#[test]
fn values_of_another_type_or_an_unknown_kind_are_refused() {
    for (pointer, value) in [
        ("/arch", json!("riscv64")),
        ("/arch", json!("X86_64")),
        ("/variant", json!("rescue")),
        ("/kernel", json!([])),
        ("/kernel/format", json!("elf")),
        ("/kernel/size_bytes", json!("18000000")),
        ("/kernel/size_bytes", json!(-1)),
        ("/kernel/size_bytes", json!(0)),
        ("/kernel/size_bytes", json!(256 * 1024 * 1024 + 1)),
        ("/initramfs/size_bytes", json!(0)),
        ("/initramfs/guest_init_protocol", json!("1")),
        ("/initramfs/guest_init_protocol", json!(1_u64 << 32)),
        ("/initramfs/guest_init_protocol", json!(2)),
        ("/compatibility/supported_protocols", json!([])),
        ("/compatibility/supported_protocols", json!(1)),
        ("/compatibility/min_agent_version", json!("1.0")),
        ("/source/timestamp", json!("yesterday")),
        ("/source/timestamp", json!(1_700_000_000)),
        ("/source/dirty", json!(0)),
    ] {
        assert_malformed(pointer, value);
    }
}

#[test]
fn a_manifest_longer_than_64_kib_is_refused_unread() {
    let text = signed(document()).to_string();
    let mut bytes = text.into_bytes();
    bytes.resize(MANIFEST_BYTES_MAX, b' ');
    assert!(verify(&bytes, &policy()).is_ok());
    bytes.push(b' ');
    assert_eq!(refusal_of_bytes(&bytes), "manifest_too_long");
    bytes.fill(0xff);
    assert_eq!(refusal_of_bytes(&bytes), "manifest_too_long");
}

#[test]
fn shape_is_refused_before_a_key_is_looked_at() {
    let unsigned_and_misshapen = with(document(), "/kernel/build_id", json!("a/b"));
    assert_eq!(refusal(&unsigned_and_misshapen), "manifest_malformed");
}

#[track_caller]
fn assert_malformed(pointer: &str, value: Value) {
    let document = signed(with(document(), pointer, value.clone()));
    assert_eq!(refusal(&document), "manifest_malformed", "{pointer} = {value}");
}
