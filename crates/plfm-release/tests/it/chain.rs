//! Who may sign what, when, for whom.

use plfm_release::{Architecture, SignedManifest, VerifiedManifest, VerifyPolicy};
use serde_json::json;

use crate::fixtures::{
    EXPIRED_KEY, FUTURE_KEY, KEY, REVOKED_KEY, STAGING_KEY, UNKNOWN_KEY, channel, document, key, keyring,
    policy, refusal, signed, signed_by, time, verify, with,
};

/// Fails to compile when the type implements the trait: then there are two ways to infer `_`.
macro_rules! assert_not_implemented {
    ($type:ty: $trait:path) => {
        const _: fn() = || {
            trait AmbiguousIfImplemented<A> {
                fn is_not_implemented() {}
            }
            impl<T: ?Sized> AmbiguousIfImplemented<()> for T {}
            #[allow(dead_code)]
            struct Implemented;
            impl<T: ?Sized + $trait> AmbiguousIfImplemented<Implemented> for T {}
            <$type as AmbiguousIfImplemented<_>>::is_not_implemented()
        };
    };
}

// Trust can be had by verifying only. (`Clone` copies trust that is there.)
assert_not_implemented!(VerifiedManifest: serde::de::DeserializeOwned);
assert_not_implemented!(VerifiedManifest: Default);
assert_not_implemented!(VerifiedManifest: std::str::FromStr);
assert_not_implemented!(VerifiedManifest: From<plfm_release::Manifest>);
assert_not_implemented!(VerifiedManifest: From<SignedManifest>);
assert_not_implemented!(plfm_release::Keyring: serde::de::DeserializeOwned);
assert_not_implemented!(plfm_release::SigningKey: serde::Serialize);

#[test]
fn a_signed_manifest_verifies_and_keeps_its_bytes() {
    let bytes = signed(document()).to_string();
    let verified = verify(bytes.as_bytes(), &policy()).unwrap();
    assert_eq!(verified.as_bytes(), bytes.as_bytes());
    assert_eq!(verified.key_id(), key(KEY).public_key().id());
    let id = "6.1.50-20251217a+guestinit-1.0.0-20251217a";
    assert_eq!(verified.manifest().release_id().to_string(), id);
}

#[test]
fn signing_is_deterministic() {
    assert_eq!(signed(document()), signed(document()));
}

#[test]
fn a_key_that_the_keyring_does_not_have_is_refused() {
    assert_eq!(
        refusal(&signed_by(UNKNOWN_KEY, document())),
        "manifest_unknown_key"
    );
}

#[test]
fn a_signature_by_another_key_than_the_named_one_is_refused() {
    let named = json!(key(KEY).public_key().id());
    assert_eq!(
        refusal(&with(
            signed_by(UNKNOWN_KEY, document()),
            "/key_id",
            named.clone()
        )),
        "manifest_bad_signature"
    );
    // Both keys are trusted; the key's id is signed too.
    assert_eq!(
        refusal(&with(signed_by(STAGING_KEY, document()), "/key_id", named)),
        "manifest_bad_signature"
    );
}

#[test]
fn a_revoked_key_is_refused_whenever_it_signed() {
    let bytes = signed_by(REVOKED_KEY, document()).to_string();
    for at in [
        "2025-12-02T00:00:00Z",
        "2026-01-02T03:04:05Z",
        "2026-06-01T00:00:00Z",
    ] {
        let policy = VerifyPolicy {
            at: time(at),
            ..policy()
        };
        assert_eq!(
            verify(bytes.as_bytes(), &policy),
            Err("manifest_revoked_key"),
            "{at}"
        );
    }
}

#[test]
fn an_expired_key_is_refused() {
    assert_eq!(
        refusal(&signed_by(EXPIRED_KEY, document())),
        "manifest_expired_key"
    );
}

#[test]
fn a_key_that_is_not_valid_yet_is_refused() {
    assert_eq!(
        refusal(&signed_by(FUTURE_KEY, document())),
        "manifest_key_not_yet_valid"
    );
}

#[test]
fn validity_begins_at_not_before_and_ends_before_not_after() {
    let at = |seed, text| {
        let policy = VerifyPolicy {
            at: time(text),
            ..policy()
        };
        verify(signed_by(seed, document()).to_string().as_bytes(), &policy).err()
    };
    assert_eq!(at(EXPIRED_KEY, "2025-12-31T23:59:59.999999999Z"), None);
    assert_eq!(
        at(EXPIRED_KEY, "2026-01-01T00:00:00Z"),
        Some("manifest_expired_key")
    );
    assert_eq!(
        at(FUTURE_KEY, "2026-01-31T23:59:59.999999999Z"),
        Some("manifest_key_not_yet_valid")
    );
    assert_eq!(at(FUTURE_KEY, "2026-02-01T00:00:00Z"), None);
}

#[test]
fn a_key_signs_for_its_channels_only() {
    assert_eq!(
        refusal(&signed_by(STAGING_KEY, document())),
        "manifest_key_not_for_channel"
    );
    let document = with(document(), "/channel", json!("dev"));
    assert_eq!(refusal(&signed(document)), "manifest_key_not_for_channel");
}

#[test]
fn a_staging_manifest_is_refused_in_production_and_the_other_way_round() {
    let staging = with(document(), "/channel", json!("staging"));
    for seed in [KEY, STAGING_KEY] {
        assert_eq!(
            refusal(&signed_by(seed, staging.clone())),
            "manifest_wrong_channel"
        );
    }
    let staging_host = VerifyPolicy {
        channel: channel("staging"),
        ..policy()
    };
    assert!(verify(signed(staging).to_string().as_bytes(), &staging_host).is_ok());
    assert_eq!(
        verify(signed(document()).to_string().as_bytes(), &staging_host),
        Err("manifest_wrong_channel")
    );
}

#[test]
fn a_staging_manifest_that_calls_itself_production_afterwards_is_refused() {
    let staging = signed_by(KEY, with(document(), "/channel", json!("staging")));
    assert_eq!(
        refusal(&with(staging, "/channel", json!("production"))),
        "manifest_bad_signature"
    );
}

#[test]
fn a_manifest_for_another_machine_is_refused() {
    let arm = signed(with(document(), "/arch", json!("aarch64")));
    assert_eq!(refusal(&arm), "manifest_wrong_architecture");
    let arm_host = VerifyPolicy {
        arch: Architecture::Aarch64,
        ..policy()
    };
    assert!(verify(arm.to_string().as_bytes(), &arm_host).is_ok());
}

#[test]
fn a_keyring_without_keys_trusts_nothing() {
    let manifest = SignedManifest::parse(signed(document()).to_string().as_bytes()).unwrap();
    let error = plfm_release::Keyring::default()
        .verify(manifest, &policy())
        .unwrap_err();
    assert_eq!(error.code(), "manifest_unknown_key");
}

#[test]
fn refusals_name_the_key_the_time_and_the_reason() {
    let message = |seed, document| {
        let manifest = SignedManifest::parse(signed_by(seed, document).to_string().as_bytes()).unwrap();
        keyring().verify(manifest, &policy()).unwrap_err().to_string()
    };
    let id = |seed: u8| key(seed).public_key().id();
    assert_eq!(
        message(REVOKED_KEY, document()),
        format!(
            "the manifest is signed with key {}, which was revoked at 2026-01-02T03:04:05Z: laptop stolen",
            id(REVOKED_KEY)
        )
    );
    assert_eq!(
        message(EXPIRED_KEY, document()),
        format!(
            "the manifest is signed with key {}, which expired at 2026-01-01T00:00:00Z",
            id(EXPIRED_KEY)
        )
    );
    assert_eq!(
        message(KEY, with(document(), "/channel", json!("staging"))),
        "the manifest is for channel staging; this host takes production"
    );
}
