use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::fixture::{Fixture, content};

#[test]
fn generate_makes_a_private_key_for_its_owner_only_and_a_keyring() {
    let fixture = Fixture::new();
    let (report, code) = fixture.json(&[
        "release",
        "keys",
        "generate",
        "--out",
        "keys",
        "--name",
        "dev",
        "--valid-days",
        "30",
    ]);
    assert_eq!((code, &report["channels"]), (0, &serde_json::json!(["staging"])));
    let mode = |name| fs::metadata(fixture.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("keys/dev.key"), mode("keys/dev.pub.pem")), (0o600, 0o644));
    assert_eq!(content(&fixture.path("keys")).len(), 3);
}

#[test]
fn a_key_is_never_overwritten() {
    let fixture = Fixture::new();
    fixture.generate();
    let before = content(&fixture.path("keys"));
    let ran = fixture.plfm(&["release", "keys", "generate", "--out", "keys", "--name", "dev"]);
    assert_eq!(ran.code, 5);
    assert_eq!(
        ran.stderr,
        "error: keys/dev.key exists; a key is never overwritten\nhint: pass another --name or --out\n"
    );
    assert_eq!(content(&fixture.path("keys")), before);
}

#[test]
fn a_second_key_joins_the_keyring() {
    let fixture = Fixture::new();
    fixture.generate();
    let keyring = "keys/dev.keyring.json";
    let args = [
        "release",
        "keys",
        "generate",
        "--out",
        "keys",
        "--name",
        "next",
        "--keyring",
        keyring,
    ];
    assert_eq!(fixture.plfm(&args).code, 0);
    assert!(!fixture.path("keys/next.keyring.json").exists());
    let (list, _) = fixture.json(&["release", "keys", "list", "--keyring", keyring]);
    assert_eq!(list["keys"].as_array().unwrap().len(), 2);
    assert!(
        list["keys"]
            .as_array()
            .unwrap()
            .iter()
            .all(|key| key["status"] == "valid")
    );
}

#[test]
fn a_key_is_revoked_once_by_a_prefix_of_its_id() {
    let fixture = Fixture::new();
    fixture.generate();
    let text = fs::read_to_string(fixture.path("keys/dev.keyring.json")).unwrap();
    let keyring: serde_json::Value = serde_json::from_str(&text).unwrap();
    let id = keyring["keys"][0]["key_id"].as_str().unwrap();
    let revoke = |id: &str, reason: &str| {
        fixture.json(&[
            "release",
            "keys",
            "revoke",
            id,
            "--keyring",
            "keys/dev.keyring.json",
            "--reason",
            reason,
        ])
    };
    assert_eq!(revoke(&id[..7], "x").1, 2);
    assert_eq!(revoke("00000000", "x").1, 4);
    let (report, code) = revoke(&id[..8], "lost laptop");
    assert_eq!(
        (code, &report["already"], &report["valid_keys_left"]),
        (0, &false.into(), &0.into())
    );
    let (again, code) = revoke(id, "another reason");
    assert_eq!(
        (code, &again["already"], &again["revoked"]["reason"]),
        (0, &true.into(), &"lost laptop".into())
    );
    let list = fixture.plfm(&["release", "keys", "list", "--keyring", "keys/dev.keyring.json"]);
    assert!(list.stdout.contains(": lost laptop"), "{}", list.stdout);
}

#[test]
fn a_keyring_that_is_not_there_is_not_found() {
    let fixture = Fixture::new();
    let (report, code) = fixture.json(&["release", "keys", "list", "--keyring", "none.json"]);
    assert_eq!((code, &report["error"]["code"]), (4, &"keyring_missing".into()));
    assert_eq!(report["error"]["retryable"], false);
}

#[test]
fn a_name_with_a_slash_is_a_usage_error() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture
            .plfm(&["release", "keys", "generate", "--out", "keys", "--name", "../x"])
            .code,
        2
    );
}
