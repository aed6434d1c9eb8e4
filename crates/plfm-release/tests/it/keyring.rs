//! The keyring file.

use plfm_release::{Keyring, Revocation};
use serde_json::{Value, json};

use crate::fixtures::{KEY, STAGING_KEY, entry, key, keyring, time, with, without};

fn file() -> Value {
    serde_json::from_str(&keyring().render()).unwrap()
}

#[track_caller]
fn refusal(file: &Value) -> String {
    Keyring::parse(file.to_string().as_bytes())
        .expect_err("taken")
        .to_string()
}

#[test]
fn a_keyring_round_trips_through_its_file() {
    assert_eq!(Keyring::parse(keyring().render().as_bytes()).unwrap(), *keyring());
}

#[test]
fn a_key_under_another_keys_id_is_refused() {
    let other = json!(key(STAGING_KEY).public_key().id());
    let message = refusal(&with(file(), "/keys/0/key_id", other.clone()));
    let actual = key(KEY).public_key().id();
    assert_eq!(
        message,
        format!(
            "the keyring lists key {} with the public key of {actual}",
            other.as_str().unwrap()
        )
    );
}

#[test]
fn a_key_that_is_there_twice_is_refused() {
    let mut file = file();
    let first = file["keys"][0].clone();
    file["keys"].as_array_mut().unwrap().push(first);
    assert_eq!(
        refusal(&file),
        format!("the keyring lists key {} twice", key(KEY).public_key().id())
    );
}

#[test]
fn a_validity_that_ends_before_it_begins_is_refused() {
    let begin = file()["keys"][0]["not_before"].clone();
    assert!(refusal(&with(file(), "/keys/0/not_after", begin)).contains("ends before it begins"));
}

#[test]
fn an_unknown_schema_or_member_is_refused() {
    assert!(refusal(&with(file(), "/schema", json!("plfm.keyring/v2"))).contains("plfm.keyring/v2"));
    refusal(&without(file(), "/schema"));
    // A misspelt `revoked` must not be a key that is trusted.
    refusal(&with(
        file(),
        "/keys/0/revokd",
        json!({ "at": "2026-01-01T00:00:00Z", "reason": "x" }),
    ));
    refusal(&with(file(), "/threshold", json!(2)));
    refusal(&with(
        file(),
        "/keys/0/revoked",
        json!({ "at": "2026-01-01T00:00:00Z" }),
    ));
}

#[test]
fn the_first_revocation_of_a_key_stays() {
    let mut keyring = keyring().clone();
    let id = key(KEY).public_key().id();
    let revocation = |reason: &str| Revocation {
        at: time("2026-01-01T00:00:00Z"),
        reason: reason.to_owned(),
    };
    keyring.revoke(id, revocation("first")).unwrap();
    keyring.revoke(id, revocation("second")).unwrap();
    assert_eq!(keyring.get(id).unwrap().revoked, Some(revocation("first")));
    assert!(
        keyring
            .revoke(key(99).public_key().id(), revocation("x"))
            .is_err()
    );
}

#[test]
fn an_entry_whose_id_was_changed_cannot_be_inserted() {
    let mut entry = entry(77, &["dev"], "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    entry.key_id = key(78).public_key().id();
    assert!(Keyring::default().insert(entry).is_err());
}
