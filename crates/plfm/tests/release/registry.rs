//! `plfm registry` and `plfm release publish`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fixture::{Fixture, Ran, content};

const AT: [&str; 4] = ["--registry", "repo", "--keys", "online"];
const OFFLINE: [&str; 2] = ["--root-keys", "offline"];

fn registry(fixture: &Fixture, args: &[&str]) -> Ran {
    fixture.plfm(&[&["registry"], args, &AT].concat())
}

fn json(fixture: &Fixture, args: &[&str]) -> (Value, i32) {
    fixture.json(&[&["registry"], args, &AT].concat())
}

fn error_code(document: &Value) -> &str {
    document["error"]["code"].as_str().unwrap_or("none")
}

/// A registry that trusts the key `dev`.
fn made() -> Fixture {
    let fixture = Fixture::new();
    fixture.generate();
    let ran = registry(
        &fixture,
        &[&["init", "--keyring", "keys/dev.keyring.json"], &OFFLINE[..]].concat(),
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    fixture
}

/// Words in the place of times.
fn without_times(text: &str) -> String {
    let is_time = |word: &str| word.len() == 20 && word.ends_with('Z') && word.contains('T');
    let lines = text.lines().map(|line| {
        let words: Vec<_> = line
            .split(' ')
            .map(|word| if is_time(word) { "TIME" } else { word })
            .collect();
        words.join(" ").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[test]
fn the_verbs_are_these() {
    let ran = Fixture::new().plfm(&["registry", "--help"]);
    let verbs: String = ran
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("Commands"))
        .take_while(|line| !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    insta::assert_snapshot!(verbs, @r"
    Commands:
      init         Make a registry and its keys
      list         Show releases, keys and what expires when
      refresh      Sign metadata anew before it expires; for a cron job
      rotate-root  Make a new root version: other root keys, or a later expiry
      rotate-key   Replace the key of targets, snapshot or timestamp
      trust        Let a key sign releases
      revoke       Revoke a release key: no host takes anything that it signed
      yank         Take a release off the offer
      gc           Remove files that nothing leads to any more
      serve        Serve a registry's directory over HTTP
      help         Print this message or the help of the given subcommand(s)
    ");
}

#[test]
fn init_says_what_to_do_with_the_keys_and_happens_once() {
    let fixture = Fixture::new();
    let args = [&["init"], &OFFLINE[..]].concat();
    let ran = registry(&fixture, &args);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(ran.stdout, @r"
    registry repo
      root          online/root.json; bring it to every host
      root keys     3 in offline, 2 have to sign; take each to another safe place, and away from here
      keys          online (targets, snapshot, timestamp)
      release keys  none; trust one with `plfm registry trust KEY.pub.pem`
      next          `plfm registry refresh` daily: the timestamp ends in a week
    ");
    let before = content(&fixture.path("offline"));
    assert_eq!(before.len(), 3);
    let ran = registry(&fixture, &args);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (5, "error: repo holds a repository already\n")
    );
    assert_eq!(content(&fixture.path("offline")), before, "keys were made anew");
}

#[test]
fn list_shows_what_ends_when() {
    let fixture = made();
    let ran = registry(&fixture, &["list"]);
    insta::assert_snapshot!(without_times(&ran.stdout), @r"
    no releases

    ROLE       VERSION  KEYS    EXPIRES               STATE
    root       1        2 of 3  TIME  good
    targets    1        1 of 1  TIME  good
    snapshot   1        1 of 1  TIME  good
    timestamp  1        1 of 1  TIME  good
    keyring version 1
    ");
    let (listing, _) = json(&fixture, &["list"]);
    assert_eq!(listing["roles"][3]["role"], "timestamp");
    assert_eq!(listing["roles"][3]["expired"], false);
}

#[test]
fn a_refresh_that_is_not_due_changes_nothing_unless_forced() {
    let fixture = made();
    let before = content(&fixture.path("repo/metadata"));
    let ran = registry(&fixture, &["refresh"]);
    insta::assert_snapshot!(without_times(&ran.stdout), @r"
    nothing is due
      next due  TIME
      ends      TIME if nothing is done
    ");
    assert_eq!(content(&fixture.path("repo/metadata")), before);
    let (report, code) = json(&fixture, &["refresh", "--force"]);
    assert_eq!((code, report["signed"].as_array().unwrap().len()), (0, 3));
    // A cron job has no targets key, and does without.
    fs::remove_file(fixture.path("online/targets.key")).unwrap();
    let (report, code) = json(&fixture, &["refresh", "--force"]);
    assert_eq!((code, report["signed"].as_array().unwrap().len()), (0, 2));
}

#[test]
fn ceremonies_need_a_threshold_of_root_keys() {
    let fixture = made();
    let one = ["--root-keys", "offline/root-2.key"];
    let two = [
        "--root-keys",
        "offline/root-2.key",
        "--root-keys",
        "offline/root-3.key",
    ];
    let ran = registry(&fixture, &[&["rotate-root"], &one[..]].concat());
    assert_eq!(ran.code, 3);
    insta::assert_snapshot!(ran.stderr, @r"
    error: 1 of the keys given are root keys of this repository; 2 are needed
    hint: look at the role's keys with `plfm registry list`; a rotation that was cut off is finished by running it again
    ");
    let ran = registry(
        &fixture,
        &[&["rotate-root", "--new-root-keys", "new"], &two[..]].concat(),
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!(without_times(&ran.stdout), @r"
    root is version 2
      was        1
      expires    TIME
      root keys  3, 2 have to sign
      hosts      follow by themselves; give new ones any root since the first
    ");
    // The old keys are worth nothing now; the trusted root.json is still the first.
    let (document, code) = json(&fixture, &[&["rotate-root"], &two[..]].concat());
    assert_eq!((code, error_code(&document)), (3, "registry_wrong_keys"));
    let (report, code) = json(&fixture, &["rotate-root", "--root-keys", "new"]);
    assert_eq!((code, &report["root_version"]), (0, &3.into()));
}

#[test]
fn a_rotated_key_takes_the_place_of_the_old_one_which_is_kept() {
    let fixture = made();
    let old = fs::read(fixture.path("online/timestamp.key")).unwrap();
    let ran = registry(&fixture, &[&["rotate-key", "timestamp"], &OFFLINE[..]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!(ran.stdout, @r"
    timestamp has a new key
      key   HEX
      root  version 3, was 1
      next  bring the key to wherever publishing or refreshing runs
    ");
    assert_ne!(fs::read(fixture.path("online/timestamp.key")).unwrap(), old);
    let kept = content(&fixture.path("online"));
    assert!(
        kept.iter()
            .any(|(name, bytes)| name.ends_with(".old.key") && *bytes == old)
    );
    assert_eq!(json(&fixture, &["refresh", "--force"]).1, 0);
    let ran = registry(&fixture, &[&["rotate-key", "root"], &OFFLINE[..]].concat());
    assert_eq!(ran.code, 2);
}

#[test]
fn a_rotation_whose_last_step_was_lost_is_finished_by_the_next() {
    let fixture = made();
    let old = fs::read(fixture.path("online/snapshot.key")).unwrap();
    let rotate = [&["rotate-key", "snapshot"], &OFFLINE[..]].concat();
    assert_eq!(registry(&fixture, &rotate).code, 0);
    // As if the command had died before it put the new key in its place.
    fs::rename(
        fixture.path("online/snapshot.key"),
        fixture.path("online/snapshot.next.key"),
    )
    .unwrap();
    fs::write(fixture.path("online/snapshot.key"), old).unwrap();
    let (document, code) = json(&fixture, &["refresh", "--force"]);
    assert_eq!((code, error_code(&document)), (3, "registry_wrong_keys"));
    let (report, code) = json(&fixture, &rotate);
    assert_eq!(
        (code, &report["root_version"]),
        (0, &3.into()),
        "it was done again"
    );
    assert_eq!(json(&fixture, &["refresh", "--force"]).1, 0);
}

#[test]
fn a_release_key_is_trusted_and_revoked_by_root_keys() {
    let fixture = made();
    let generate = ["release", "keys", "generate", "--out", "keys", "--name", "next"];
    let (key, _) = fixture.json(&generate);
    let trust = ["trust", "keys/next.pub.pem", "--channel", "staging"];
    let ran = registry(&fixture, &[&trust[..], &OFFLINE].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("keyring   version 2, was 1"),
        "{}",
        ran.stdout
    );
    let list = fs::read_to_string(fixture.path("keys/next.keyring.json")).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let id = list["keys"][0]["key_id"].as_str().unwrap();
    assert_eq!(key["key_id"], "HEX");
    let revoke = ["revoke", &id[..10], "--reason", "lost"];
    let (report, code) = json(&fixture, &[&revoke[..], &OFFLINE].concat());
    assert_eq!(
        (code, &report["version"], &report["valid_keys"]),
        (0, &3.into(), &1.into())
    );
    let (report, _) = json(&fixture, &[&revoke[..], &OFFLINE].concat());
    assert_eq!(
        (&report["already"], &report["version"]),
        (&true.into(), &3.into())
    );
    let (document, code) = json(
        &fixture,
        &[&["revoke", "0000000000", "--reason", "x"], &OFFLINE[..]].concat(),
    );
    assert_eq!((code, error_code(&document)), (4, "no_such_key"));
}

#[test]
fn a_release_is_published_once_listed_yanked_and_not_published_again() {
    let fixture = made();
    let Some(ran) = fixture.build(&[]) else { return };
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let publish = [
        "release", "publish", "release", "--to", "repo", "--keys", "online",
    ];
    let ran = fixture.plfm(&publish);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let first = ran.stdout.lines().next().unwrap();
    assert_eq!(first, "published 6.1.7-20251217a+guestinit-1.0.0-20251217a");
    assert_eq!(ran.stdout.matches("  added  ").count(), 4, "{}", ran.stdout);
    assert!(ran.stdout.contains("targets  version 2, was 1"), "{}", ran.stdout);
    let (again, code) = fixture.json(&publish);
    assert_eq!((code, again["added"].as_array().unwrap().len()), (0, 0));
    let ran = registry(&fixture, &["list"]);
    assert!(ran.stdout.contains("  offered"), "{}", ran.stdout);
    let ran = registry(
        &fixture,
        &["yank", "guestinit-1.0.0-20251217a", "--reason", "panics on boot"],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!(without_times(&ran.stdout), @r"
    release 6.1.7-20251217a+guestinit-1.0.0-20251217a yanked
      at       TIME
      reason   panics on boot
      removed  4 targets
      hosts    that have it keep it; to stop them, block it or revoke its key
      undo     none: build it anew with another build id
    ");
    let ran = registry(&fixture, &["list"]);
    assert!(ran.stdout.contains(": panics on boot"), "{}", ran.stdout);
    let (document, code) = fixture.json(&publish);
    assert_eq!((code, error_code(&document)), (5, "release_yanked"));
    let (garbage, _) = json(&fixture, &["gc"]);
    assert_eq!(
        (&garbage["files"], &garbage["removed"]),
        (&Value::Array(vec![]), &Value::Null)
    );
}

#[test]
fn a_release_that_hosts_would_refuse_is_not_published() {
    let fixture = Fixture::new();
    assert_eq!(registry(&fixture, &[&["init"], &OFFLINE[..]].concat()).code, 0);
    let Some(ran) = fixture.build(&[]) else { return };
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = fixture.plfm(&[
        "release", "publish", "release", "--to", "repo", "--keys", "online",
    ]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(ran.stderr, @r"
    error: release/manifest.json is not to be trusted: the manifest is signed with key HEX, which the keyring does not have
    hint: hosts would refuse it: sign it with a key of the registry's keyring, or trust its key with `plfm registry trust KEY.pub.pem`
    ");
}

#[test]
fn what_is_missing_is_named() {
    let fixture = made();
    let at = |url: &'static str| ["registry", "list", "--registry", url, "--keys", "online"];
    let (document, code) = fixture.json(&at("nowhere"));
    assert_eq!((code, error_code(&document)), (4, "registry_missing"));
    let (document, code) = fixture.json(&at("http://127.0.0.1/x"));
    assert_eq!((code, error_code(&document)), (2, "registry_url_invalid"));
    let (document, code) = fixture.json(&["registry", "list", "--registry", "repo"]);
    assert_eq!((code, error_code(&document)), (2, "root_missing"));
    fs::create_dir(fixture.path("empty")).unwrap();
    let ran = fixture.plfm(&at("empty"));
    assert_eq!(ran.code, 4);
    insta::assert_snapshot!(ran.stderr, @r"
    error: metadata/timestamp.json is missing
    hint: make a repository with `plfm registry init`
    ");
}

#[test]
fn serve_serves_on_loopback_until_it_is_told_to_stop() {
    let fixture = made();
    let mut server = Command::new(env!("CARGO_BIN_EXE_plfm"))
        .args(["registry", "serve"])
        .arg(fixture.path("repo"))
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.trim().rsplit_once("http://").unwrap().1;
    let mut connection = TcpStream::connect(address).unwrap();
    connection
        .write_all(b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let pid = server.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert!(server.wait().unwrap().success());
}
