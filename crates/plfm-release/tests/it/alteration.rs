//! What was signed cannot be altered: not a bit of it, and not by whom it was signed.

use std::thread;

use plfm_release::{SignedManifest, parse_strict_json};
use serde_json::{Value, json};

use crate::fixtures::{document, policy, refusal, refusal_of_bytes, signed, verify, with, without};

/// The manifests with one bit flipped that still verify. Every one of them must be the same document.
fn surviving_flips(bytes: &[u8]) -> Vec<Vec<u8>> {
    let original = parse_strict_json(bytes).unwrap();
    let flip = |index: usize| {
        let mut altered = bytes.to_vec();
        altered[index / 8] ^= 1 << (index % 8);
        let verified = verify(&altered, &policy()).ok()?;
        let document = parse_strict_json(verified.as_bytes()).unwrap();
        assert_eq!(
            document, original,
            "bit {index} changed the document, and it verified"
        );
        Some(altered)
    };
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        let work = |first: usize| {
            (first..bytes.len() * 8)
                .step_by(workers)
                .filter_map(flip)
                .collect::<Vec<_>>()
        };
        let handles: Vec<_> = (0..workers)
            .map(|first| scope.spawn(move || work(first)))
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap())
            .collect()
    })
}

#[test]
fn no_bit_of_a_compact_manifest_can_be_flipped() {
    assert_eq!(
        surviving_flips(signed(document()).to_string().as_bytes()),
        Vec::<Vec<u8>>::new()
    );
}

/// JSON has several spellings of one document, and a few are one bit apart: a tab and a carriage return, the case
/// of a digit in `\u00e9`, and `\/` … The signature covers the document, so these verify, and mean the same.
#[test]
fn a_flipped_bit_survives_only_as_another_spelling_of_the_same_document() {
    let signed = signed(with(document(), "/note", json!("é")));
    let text = serde_json::to_string_pretty(&signed)
        .unwrap()
        .replace("  ", "\t")
        .replace('é', "\\u00e9");
    let survivors = surviving_flips(text.as_bytes());
    let tabs = text.matches('\t').count();
    assert_eq!(
        survivors.len(),
        tabs + 1,
        "every tab as a carriage return, and \\u00E9"
    );
    assert!(
        survivors
            .iter()
            .any(|bytes| String::from_utf8_lossy(bytes).contains("\\u00E9"))
    );
}

#[test]
fn spelling_and_order_are_outside_the_signature() {
    let signed = signed(document());
    let members = signed.as_object().unwrap();
    let reversed: Vec<String> = members
        .iter()
        .rev()
        .map(|(name, value)| format!("{}: {value}", json!(name)))
        .collect();
    let text = format!(" {{\n{}\r\n}}\t", reversed.join(" ,\n"));
    assert_ne!(text, signed.to_string());
    assert!(verify(text.as_bytes(), &policy()).is_ok());
}

#[test]
fn no_member_can_be_removed() {
    for pointer in pointers(&signed(document()), "") {
        let code = refusal(&without(signed(document()), &pointer));
        let expected: &[_] = match pointer.as_str() {
            "/schema" => &["manifest_unknown_schema"],
            // May be absent in a manifest of that shape; not in this one.
            "/source/git_sha" => &["manifest_bad_signature"],
            _ => &["manifest_malformed"],
        };
        assert!(expected.contains(&code), "{pointer}: {code}");
    }
}

fn pointers(value: &Value, prefix: &str) -> Vec<String> {
    let Some(members) = value.as_object() else {
        return Vec::new();
    };
    let of = |(name, inner): (&String, &Value)| {
        let pointer = format!("{prefix}/{name}");
        let mut all = pointers(inner, &pointer);
        all.push(pointer);
        all
    };
    members.iter().flat_map(of).collect()
}

#[test]
fn no_member_can_be_changed_to_another_good_value() {
    let changes = [
        ("/variant", json!("debug")),
        ("/kernel/version", json!("6.1.51")),
        ("/kernel/build_id", json!("20251217b")),
        ("/kernel/sha256", json!("44".repeat(32))),
        ("/kernel/config_sha256", json!("44".repeat(32))),
        ("/kernel/size_bytes", json!(18_000_001)),
        ("/kernel/format", json!("bzimage")),
        ("/initramfs/guest_init_version", json!("1.0.1")),
        ("/initramfs/sha256", json!("44".repeat(32))),
        ("/initramfs/size_bytes", json!(1_200_001)),
        ("/compatibility/min_agent_version", json!("0.9.0")),
        ("/compatibility/supported_protocols", json!([1, 2])),
        ("/source/git_sha", json!(null)),
        ("/source/dirty", json!(true)),
        ("/source/timestamp", json!("2025-12-17T00:00:01Z")),
    ];
    for (pointer, value) in changes {
        assert_eq!(
            refusal(&with(signed(document()), pointer, value)),
            "manifest_bad_signature",
            "{pointer}"
        );
    }
}

#[test]
fn an_unknown_member_is_covered_by_the_signature() {
    for pointer in ["/future", "/kernel/future", "/compatibility/future"] {
        assert_eq!(
            refusal(&with(signed(document()), pointer, json!(1))),
            "manifest_bad_signature",
            "added {pointer}"
        );
        let signed = signed(with(
            document(),
            pointer,
            json!({ "of": ["a", "later", { "version": 2 }] }),
        ));
        assert!(
            verify(signed.to_string().as_bytes(), &policy()).is_ok(),
            "signed with {pointer}"
        );
        assert_eq!(
            refusal(&with(signed.clone(), pointer, json!(1))),
            "manifest_bad_signature",
            "changed {pointer}"
        );
        assert_eq!(
            refusal(&without(signed, pointer)),
            "manifest_bad_signature",
            "removed {pointer}"
        );
    }
}

#[test]
fn only_the_signature_member_of_the_document_itself_is_not_signed() {
    let signed = signed(with(document(), "/kernel/signature", json!("inner")));
    assert!(verify(signed.to_string().as_bytes(), &policy()).is_ok());
    assert_eq!(
        refusal(&with(signed, "/kernel/signature", json!("other"))),
        "manifest_bad_signature"
    );
}

#[test]
fn the_signature_of_another_manifest_does_not_fit() {
    let other = signed(with(document(), "/kernel/build_id", json!("20251218a")));
    let mixed = with(signed(document()), "/signature", other["signature"].clone());
    assert_eq!(refusal(&mixed), "manifest_bad_signature");
}

/// The kernel of one signed release with the initramfs of another.
#[test]
fn parts_of_two_signed_manifests_are_no_manifest() {
    let other = signed(with(document(), "/initramfs/sha256", json!("55".repeat(32))));
    let mixed = with(signed(document()), "/initramfs", other["initramfs"].clone());
    assert_eq!(refusal(&mixed), "manifest_bad_signature");
}

#[test]
fn a_signature_is_the_base64_of_64_bytes_and_nothing_else() {
    let good = signed(document())["signature"].as_str().unwrap().to_owned();
    assert_eq!(good.len(), 88);
    let malformed = [
        json!(""),
        json!(null),
        json!(64),
        json!([good]),
        json!(&good[..84]),
        json!(format!("{good}AAAA")),
        json!(format!("AAAA{good}")),
        json!(good.trim_end_matches('=')),
        json!(format!("{good}\n")),
        json!(format!(" {good}")),
        json!(good.replace("==", "=")),
        json!(good.replacen(&good[..1], "-", 1)),
        // The last digit has bits that no byte takes.
        json!(format!(
            "{}{}==",
            &good[..85],
            if &good[85..86] == "B" { "C" } else { "B" }
        )),
        json!("g".repeat(128)),
    ];
    for signature in malformed {
        let document = with(signed(document()), "/signature", signature.clone());
        assert_eq!(refusal(&document), "manifest_malformed", "{signature}");
    }
    assert_eq!(
        refusal(&without(signed(document()), "/signature")),
        "manifest_malformed"
    );
    let zeros = with(
        signed(document()),
        "/signature",
        json!(format!("{}==", "A".repeat(86))),
    );
    assert_eq!(refusal(&zeros), "manifest_bad_signature");
}

/// Adding the group's order to the scalar gives a second signature that a lax verifier takes.
#[test]
fn a_signature_has_no_second_form() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let signed = signed(document());
    let mut bytes = base64.decode(signed["signature"].as_str().unwrap()).unwrap();
    let mut carry = 0;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    let second = with(signed, "/signature", json!(base64.encode(bytes)));
    assert_eq!(refusal(&second), "manifest_bad_signature");
}

#[test]
fn a_document_that_is_not_a_manifest_is_refused_however_well_it_is_signed() {
    let keyring_like = signed(json!({ "schema": "plfm.keyring/v1", "keys": [] }));
    assert_eq!(refusal(&keyring_like), "manifest_unknown_schema");
    assert_eq!(
        SignedManifest::parse(keyring_like.to_string().as_bytes())
            .unwrap_err()
            .code(),
        "manifest_unknown_schema"
    );
    assert_eq!(refusal_of_bytes(b""), "manifest_not_json");
}
