//! The ceremonies of `docs/registry.md` and `docs/security.md`, step by step with their commands, and real agents that
//! follow them.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use plfm_registry::refresh::RefreshWhat;
use plfm_registry::{Lifetimes, OnlineKeys, Repository, Signing, Store};
use plfm_release::SigningKey;
use serde_json::Value;

use crate::host::{Host, Ran};
use crate::registry::{Registry, offers, text};
use crate::trust::{refused_boot, signing_key};
use crate::{facts, lab};

facts![
    three_agents_follow_a_new_root_a_revocation_and_a_new_release_untouched,
    agents_follow_the_replacement_of_each_online_key,
    a_stolen_timestamp_key_is_worthless_after_its_rotation,
    a_stolen_snapshot_key_is_worthless_after_its_rotation,
    a_stolen_targets_key_is_worthless_after_its_rotation_and_what_it_withheld_is_offered_anew,
    a_stolen_release_key_is_worthless_after_its_revocation,
    stolen_targets_and_release_keys_are_worthless_after_revocation_and_rotation,
    one_stolen_root_key_is_replaced_by_the_two_others,
    two_stolen_root_keys_need_a_new_registry_and_a_root_brought_by_hand,
    a_store_that_was_vandalised_is_mended_with_an_older_timestamp,
    a_version_that_leaves_no_other_is_taken_back_with_an_older_timestamp_and_a_new_key,
    a_release_that_was_yanked_is_offered_no_more_and_boots_where_it_is,
    the_hosts_own_keyring_revokes_what_the_registry_trusts,
    a_broken_keyring_file_is_reported_and_keeps_no_revocation_from_the_host,
    a_host_boots_what_it_has_while_the_registry_is_gone_and_recovers_by_itself,
    a_host_boots_what_it_has_when_the_registry_expired_and_recovers_by_itself,
    a_host_that_slept_through_three_roots_finds_its_way,
    a_host_whose_first_look_fails_trusts_nothing_until_one_succeeds,
];

/// The build ids of the lab's release, and of one that is signed by another key.
const LAB: &str = "20260101a";
const NEXT: &str = "20270101a";
const EVIL: &str = "20270666e";

fn lab_key_id() -> String {
    signing_key().public_key().id().to_string()
}

/// A registry that offers the lab's release, and a host that reads its directory and has that release current.
fn registry_and_host() -> (Registry, Host) {
    let registry = Registry::new();
    registry.publish(&lab::release()).ok();
    let host = Host::with_registry(text(&registry.store()), &registry.root());
    host.wait_offered(LAB);
    host.fetch_current(LAB).ok();
    (registry, host)
}

fn error_code(ran: &Ran) -> String {
    ran.json()["error"]["code"].as_str().unwrap_or("none").to_owned()
}

#[track_caller]
fn assert_error(ran: &Ran, exit_code: i32, code: &str) {
    assert_eq!(
        (ran.code, error_code(ran).as_str()),
        (exit_code, code),
        "{}",
        ran.stdout
    );
}

/// The host refuses to boot its current release, to fetch it, and to install it from a directory.
#[track_caller]
fn assert_refused_everywhere(host: &Host, build_id: &str, release: &Path, code: &str) {
    let (ran, error) = refused_boot(host);
    assert_eq!((ran.code, error["code"].as_str()), (125, Some(code)), "{error}");
    assert_error(&host.fetch_current(build_id), 1, code);
    assert_error(&install(host, release), 1, code);
}

fn install(host: &Host, release: &Path) -> Ran {
    host.plfm(["--output", "json", "release", "install", text(release)])
}

fn current(host: &Host) -> String {
    let list = host.json(["release", "list"]);
    let mut releases = list["items"].as_array().unwrap().iter();
    let current = releases.find(|release| release["state"] == "current");
    current.map_or_else(
        || "none".to_owned(),
        |release| release["id"].as_str().unwrap().to_owned(),
    )
}

fn three_agents_follow_a_new_root_a_revocation_and_a_new_release_untouched() {
    let registry = Registry::new();
    registry.publish(&lab::release()).ok();
    let server = registry.serve();
    let hosts: [Host; 3] = std::array::from_fn(|_| Host::with_registry(&server.url(), &registry.root()));
    for host in &hosts {
        host.wait_offered(LAB);
        host.fetch_current(LAB).ok();
    }

    let new_root = registry.rotate_root(&[&registry.root_keys()], "root-2027");
    registry.trust_new_key("2027a", &new_root);
    let next = registry.release("2027a", NEXT);
    registry.publish(&next).ok();
    let revoked = registry.revoke(&lab_key_id(), &new_root).ok().json();
    assert_eq!(revoked["version"], 3, "{revoked}");

    for host in &hosts {
        host.wait_keyring(&revoked["version"]);
        host.wait_offered(NEXT);
        assert_refused_everywhere(host, LAB, &lab::release(), "manifest_revoked_key");
        host.fetch_current(NEXT).ok();
        assert!(current(host).contains(NEXT), "{}", current(host));
        assert!(!host.path("keyring.json").exists());
        assert_eq!(
            host.log().matches("ready").count(),
            1,
            "an agent was restarted: {}",
            host.log()
        );
    }
    hosts[0].run_script("true").ok();
}

fn agents_follow_the_replacement_of_each_online_key() {
    let (registry, host) = registry_and_host();
    for (role, days) in [("timestamp", "3"), ("snapshot", "4"), ("targets", "5")] {
        let before = expires_at(&host);
        let rotated = registry.rotate_key(role, &registry.root_keys()).ok().json();
        assert_eq!(rotated["role"], role);
        // What the new key signs is taken, whichever role is next.
        registry.refresh(days).ok();
        host.wait_registry("what the new key signed", |seen| {
            seen["problem"].is_null() && seen["expires_at"] != before
        });
    }
    registry.trust_new_key("2027a", &registry.root_keys());
    registry.publish(&registry.release("2027a", NEXT)).ok();
    host.wait_offered(NEXT);
    host.fetch_current(NEXT).ok();
}

/// The moment that the host's view of the registry ends: what tells one signed state from another.
fn expires_at(host: &Host) -> Value {
    host.registry()["expires_at"].clone()
}

/// The thief has the keys of `roles`, the last of which is the timestamp's, and write access to the store. What he signs
/// is taken before the first of the keys was replaced, and refused afterwards. He can still move the timestamp's version
/// ahead where that key is his too: when all are replaced, the timestamp's last, hosts follow the operator again.
fn theft(registry: &Registry, host: &Host, roles: &[&str]) {
    let thief = registry.copy();
    thief.keep_online_keys(roles);
    for _ in 0..3 {
        thief.refresh("6").ok();
    }
    let before = expires_at(host);
    registry.put_metadata_of(&thief);
    host.wait_registry("what the thief signed", |seen| {
        seen["problem"].is_null() && seen["expires_at"] != before
    });

    let signed_by_thief = expires_at(host);
    registry.rotate_key(roles[0], &registry.root_keys()).ok();
    registry.refresh("4").ok();
    host.wait_registry("what the new key signed", |seen| {
        seen["problem"].is_null() && seen["expires_at"] != signed_by_thief
    });

    let good = registry.copy();
    // Far ahead of what the operator signed, so that no floor is what stops it.
    for _ in 0..8 {
        thief.refresh("6").ok();
    }
    registry.put_metadata_of(&thief);
    host.wait_problem("registry_bad_signature");
    assert!(offers(&host.registry(), LAB), "what was trusted stays");
    assert_error(&registry.registry(&["list"]), 1, "registry_bad_signature");

    registry.put_metadata_of(&good);
    if roles.len() > 1 {
        host.wait_problem("registry_rollback");
    }
    for role in &roles[1..] {
        registry.rotate_key(role, &registry.root_keys()).ok();
    }
    host.wait_registry("the operator's metadata again", |seen| seen["problem"].is_null());
}

fn a_stolen_timestamp_key_is_worthless_after_its_rotation() {
    let (registry, host) = registry_and_host();
    theft(&registry, &host, &["timestamp"]);
}

fn a_stolen_snapshot_key_is_worthless_after_its_rotation() {
    let (registry, host) = registry_and_host();
    theft(&registry, &host, &["snapshot", "timestamp"]);
}

fn a_stolen_targets_key_is_worthless_after_its_rotation_and_what_it_withheld_is_offered_anew() {
    let (registry, host) = registry_and_host();
    registry.trust_new_key("2027a", &registry.root_keys());
    let next = registry.release("2027a", NEXT);
    registry.publish(&next).ok();
    host.wait_offered(NEXT);
    let thief = registry.copy();
    thief.registry(&["yank", NEXT, "--reason", "says the thief"]).ok();
    registry.put_metadata_of(&thief);
    host.wait_not_offered(NEXT);

    theft(&registry, &host, &["targets", "snapshot", "timestamp"]);
    // The list shows what is missing. A name that was yanked is not offered again: the same release gets a new one.
    let listed = registry.registry(&["list"]).ok().json();
    assert_eq!(listed["yanked"][0]["reason"], "says the thief", "{listed}");
    assert_error(&registry.publish(&next), 5, "release_yanked");
    registry.publish(&registry.release("2027a", "20270102b")).ok();
    host.wait_offered("20270102b");
}

fn a_stolen_release_key_is_worthless_after_its_revocation() {
    let (registry, host) = registry_and_host();
    registry.make_release_key("thiefs-own");
    registry.trust_new_key("2027a", &registry.root_keys());
    let evil = registry.release("2027a", EVIL);
    // The key signs, and offers nothing: for that the targets key is needed. By another way it comes in.
    assert!(!offers(&host.registry(), EVIL));
    let trusted = registry.registry(&["list"]).ok().json()["keyring_version"].clone();
    host.wait_keyring(&trusted);
    let unknown = install(&host, &registry.release("thiefs-own", "20270667f"));
    assert_error(&unknown, 1, "manifest_unknown_key");
    host.plfm(["release", "install", "--current", text(&evil)]).ok();

    let id = key_id_of(&registry, "2027a");
    let revoked = registry.revoke(&id, &registry.root_keys()).ok().json();
    registry.trust_new_key("2027b", &registry.root_keys());
    registry.publish(&registry.release("2027b", NEXT)).ok();
    let listed = registry.registry(&["list"]).ok().json();
    assert!(listed["keyring_version"].as_u64() > revoked["version"].as_u64());
    host.wait_keyring(&listed["keyring_version"]);
    let (_, error) = refused_boot(&host);
    assert_eq!(error["code"], "manifest_revoked_key", "{error}");
    assert_error(&install(&host, &evil), 1, "manifest_revoked_key");
    assert_error(&registry.publish(&evil), 1, "manifest_revoked_key");
    host.wait_offered(NEXT);
    host.fetch_current(NEXT).ok();
}

fn key_id_of(registry: &Registry, name: &str) -> String {
    release_key(registry, name).public_key().id().to_string()
}

fn release_key(registry: &Registry, name: &str) -> SigningKey {
    load_key(&registry.path(&format!("release-keys/{name}.key")))
}

fn load_key(path: &Path) -> SigningKey {
    SigningKey::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn stolen_targets_and_release_keys_are_worthless_after_revocation_and_rotation() {
    let (registry, host) = registry_and_host();
    registry.trust_new_key("2027a", &registry.root_keys());
    let thief = registry.copy();
    thief.publish(&thief.release("2027a", EVIL)).ok();
    registry.put_targets_of(&thief);
    registry.put_metadata_of(&thief);
    host.wait_offered(EVIL);
    host.fetch_current(EVIL).ok();

    let id = key_id_of(&registry, "2027a");
    let revoked = registry.revoke(&id, &registry.root_keys()).ok().json();
    let refused_now = revoked["releases"].as_array().unwrap();
    assert!(refused_now[0].as_str().unwrap().contains(EVIL), "{revoked}");
    for role in ["targets", "snapshot", "timestamp"] {
        registry.rotate_key(role, &registry.root_keys()).ok();
    }
    registry.registry(&["yank", EVIL, "--reason", "not ours"]).ok();
    host.wait_keyring(&revoked["version"]);
    host.wait_not_offered(EVIL);
    let (_, error) = refused_boot(&host);
    assert_eq!(error["code"], "manifest_revoked_key", "{error}");

    let good = registry.copy();
    for _ in 0..8 {
        thief.refresh("6").ok();
    }
    registry.put_metadata_of(&thief);
    host.wait_problem("registry_bad_signature");
    registry.put_metadata_of(&good);
    host.wait_keyring(&revoked["version"]);
    host.fetch_current(LAB).ok();
}

fn one_stolen_root_key_is_replaced_by_the_two_others() {
    let (registry, host) = registry_and_host();
    let [one, two, three] =
        ["root-1.key", "root-2.key", "root-3.key"].map(|name| registry.root_keys().join(name));
    let thief = registry.copy();
    assert_error(&thief.revoke(&lab_key_id(), &two), 3, "registry_wrong_keys");
    let new_root = registry.rotate_root(&[&one, &three], "root-2027");
    // The old keys, all three together, are worth nothing now.
    let refused = registry.revoke(&lab_key_id(), &registry.root_keys());
    assert_error(&refused, 3, "registry_wrong_keys");
    let revoked = registry.revoke(&lab_key_id(), &new_root).ok().json();
    host.wait_keyring(&revoked["version"]);
    let (_, error) = refused_boot(&host);
    assert_eq!(error["code"], "manifest_revoked_key", "{error}");
}

fn two_stolen_root_keys_need_a_new_registry_and_a_root_brought_by_hand() {
    let (registry, mut host) = registry_and_host();
    // With two of three the thief is the registry.
    let thief = registry.copy();
    let [one, two] = ["root-1.key", "root-2.key"].map(|name| thief.root_keys().join(name));
    let thiefs_root = thief.rotate_root(&[&one, &two], "thiefs-root");
    thief.trust_new_key("thiefs-own", &thiefs_root);
    thief.publish(&thief.release("thiefs-own", EVIL)).ok();
    registry.put_targets_of(&thief);
    registry.put_metadata_of(&thief);
    host.wait_offered(EVIL);
    host.fetch_current(EVIL).ok();

    registry.init(&lab::keyring());
    registry.publish(&lab::release()).ok();
    // Without it nothing of the new registry is taken.
    host.wait_problem("registry_bad_signature");
    // By hand, on each host: the new root, and nothing of what was trusted under the old one.
    host.stop_agent();
    host.bring_root(&registry.root());
    std::fs::remove_dir_all(host.path("state/registry")).unwrap();
    host.start_agent();
    host.wait_offered(LAB);
    assert!(!offers(&host.registry(), EVIL));
    let (_, error) = refused_boot(&host);
    assert_eq!(error["code"], "manifest_unknown_key", "{error}");
    host.fetch_current(LAB).ok();
    assert!(current(&host).contains(LAB));
}

fn a_store_that_was_vandalised_is_mended_with_an_older_timestamp() {
    let (registry, host) = registry_and_host();
    let timestamp = registry.store().join("metadata/timestamp.json");
    let kept = std::fs::read(&timestamp).unwrap();
    let before = expires_at(&host);
    registry.refresh("5").ok();
    host.wait_registry("a newer timestamp", |seen| seen["expires_at"] != before);

    std::fs::write(&timestamp, "{}").unwrap();
    for target in std::fs::read_dir(registry.store().join("targets")).unwrap() {
        let path = target.unwrap().path();
        if text(&path).contains("vmlinuz-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    host.wait_problem("registry_malformed");
    let refused = registry.registry(&["list"]);
    assert_error(&refused, 1, "registry_malformed");

    std::fs::write(&timestamp, kept).unwrap();
    host.wait_problem("registry_rollback");
    registry.rotate_key("timestamp", &registry.root_keys()).ok();
    host.wait_registry("the mended registry", |seen| seen["problem"].is_null());
    // The kernel is on this host; one that has nothing needs it.
    let new_host = Host::with_registry(text(&registry.store()), &registry.root());
    new_host.wait_offered(LAB);
    assert_error(&new_host.fetch_current(LAB), 6, "registry_file_missing");
    registry.publish(&lab::release()).ok();
    new_host.fetch_current(LAB).ok();
}

/// The last version that hosts read: JSON's integers are exact up to there.
const VERSION_MAX: u64 = (1 << 53) - 1;

/// Signs the timestamp anew with the role's key, as the last version.
fn use_up_versions(registry: &Registry) {
    let path = registry.store().join("metadata/timestamp.json");
    let mut document: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    document["signed"]["version"] = VERSION_MAX.into();
    let tomorrow = Timestamp::now() + SignedDuration::from_hours(24);
    document["signed"]["expires"] = tomorrow.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    // Sorted and without spaces: with neither floats nor escapes in it this is the canonical form.
    let form = document["signed"].to_string();
    let signature = load_key(&registry.path("online/timestamp.key")).sign_tuf_role(form.as_bytes());
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    document["signatures"][0]["sig"] = hex.into();
    std::fs::write(&path, document.to_string()).unwrap();
}

fn a_version_that_leaves_no_other_is_taken_back_with_an_older_timestamp_and_a_new_key() {
    let (registry, host) = registry_and_host();
    let timestamp = registry.store().join("metadata/timestamp.json");
    let kept = std::fs::read(&timestamp).unwrap();
    let before = expires_at(&host);
    use_up_versions(&registry);
    host.wait_registry("what the thief signed", |seen| seen["expires_at"] != before);
    let refused = registry.rotate_key("timestamp", &registry.root_keys());
    assert_error(&refused, 1, "registry_out_of_range");

    std::fs::write(&timestamp, kept).unwrap();
    // The first step of the rotation, a root with both keys, has cleared the floor already. The same call goes on.
    registry.rotate_key("timestamp", &registry.root_keys()).ok();
    registry.trust_new_key("2027a", &registry.root_keys());
    registry.publish(&registry.release("2027a", NEXT)).ok();
    host.wait_offered(NEXT);
    host.wait_registry("no problem", |seen| seen["problem"].is_null());
}

fn a_release_that_was_yanked_is_offered_no_more_and_boots_where_it_is() {
    let (registry, host) = registry_and_host();
    registry
        .registry(&["yank", LAB, "--reason", "panics on boot"])
        .ok();
    host.wait_not_offered(LAB);
    assert_error(&host.fetch_current(LAB), 4, "release_unknown");
    assert!(current(&host).contains(LAB));
    host.run_script("true").ok();
}

/// The keyring of an operator who trusts the lab's key no longer.
fn brake(host: &Host) -> PathBuf {
    let path = host.path("revoking.json");
    std::fs::copy(lab::keyring(), &path).unwrap();
    let (id, keyring) = (lab_key_id(), text(&path));
    host.plfm([
        "release",
        "keys",
        "revoke",
        &id,
        "--keyring",
        keyring,
        "--reason",
        "brake",
    ])
    .ok();
    path
}

fn the_hosts_own_keyring_revokes_what_the_registry_trusts() {
    let (registry, host) = registry_and_host();
    std::fs::rename(brake(&host), host.path("keyring.json")).unwrap();
    host.wait_look();
    assert_refused_everywhere(&host, LAB, &lab::release(), "manifest_revoked_key");
    // It takes away only: a key that the registry does not trust is none because of a file.
    registry.make_release_key("local");
    let local = registry.path("release-keys/local.keyring.json");
    std::fs::copy(local, host.path("keyring.json")).unwrap();
    host.signal_agent("HUP", "keyring read again");
    let foreign = install(&host, &registry.release("local", NEXT));
    assert_error(&foreign, 1, "manifest_unknown_key");
    // The brake is let go.
    std::fs::remove_file(host.path("keyring.json")).unwrap();
    host.wait_look();
    host.fetch_current(LAB).ok();
}

fn a_broken_keyring_file_is_reported_and_keeps_no_revocation_from_the_host() {
    let (registry, host) = registry_and_host();
    let assert_revoked = || {
        host.wait_look();
        let (_, error) = refused_boot(&host);
        assert_eq!(error["code"], "manifest_revoked_key", "{error}");
    };
    let keyring = host.path("keyring.json");
    std::fs::rename(brake(&host), &keyring).unwrap();
    assert_revoked();
    std::fs::write(&keyring, "{").unwrap();
    let seen = host.wait_problem("keyring_unreadable");
    let detail = seen["problem"]["detail"].as_str().unwrap();
    assert!(detail.contains("keyring.json"), "{detail}");
    // What the file revoked when it could be read last stays revoked.
    assert_revoked();
    std::fs::remove_file(&keyring).unwrap();
    host.wait_registry("no problem", |seen| seen["problem"].is_null());
    host.wait_look();
    host.fetch_current(LAB).ok();
    // And what the registry revokes meanwhile is revoked.
    std::fs::write(&keyring, "{").unwrap();
    host.wait_problem("keyring_unreadable");
    let revoked = registry.revoke(&lab_key_id(), &registry.root_keys()).ok().json();
    host.wait_registry("the revocation", |seen| {
        seen["keyring_version"] == revoked["version"]
    });
    assert_revoked();
}

fn a_host_boots_what_it_has_while_the_registry_is_gone_and_recovers_by_itself() {
    let registry = Registry::new();
    registry.publish(&lab::release()).ok();
    let mut server = registry.serve();
    let mut host = Host::with_registry(&server.url(), &registry.root());
    host.wait_offered(LAB);
    host.fetch_current(LAB).ok();
    server.stop();
    host.wait_problem("registry_unreachable");
    host.run_script("true").ok();
    assert_error(
        &host.plfm(["--output", "json", "release", "available"]),
        6,
        "registry_unreachable",
    );
    // Nor does a restart need the registry.
    host.kill_agent();
    host.start_agent();
    host.wait_problem("registry_unreachable");
    host.run_script("true").ok();
    registry.trust_new_key("2027a", &registry.root_keys());
    registry.publish(&registry.release("2027a", NEXT)).ok();
    server.again();
    host.wait_offered(NEXT);
    assert!(host.registry()["problem"].is_null());
    host.fetch_current(NEXT).ok();
}

/// Signs everything anew, for as long as `lifetime`: shorter than the command takes, whose unit is the day.
fn refresh_for(registry: &Registry, lifetime: SignedDuration) {
    let key = |role: &str| vec![load_key(&registry.path(&format!("online/{role}.key")))];
    let keys = OnlineKeys {
        targets: key("targets"),
        snapshot: key("snapshot"),
        timestamp: key("timestamp"),
    };
    let lifetimes = Lifetimes {
        root: lifetime,
        targets: lifetime,
        snapshot: lifetime,
        timestamp: lifetime,
    };
    let signing = Signing {
        keys: &keys,
        lifetimes: &lifetimes,
        now: Timestamp::now(),
    };
    let root = std::fs::read(registry.root()).unwrap();
    let store = Store::open(text(&registry.store()), std::iter::empty()).unwrap();
    let refreshed = async {
        let mut repository = Repository::open(store, &root).await.unwrap();
        repository
            .refresh(RefreshWhat::Everything, &signing)
            .await
            .unwrap();
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(refreshed);
}

fn a_host_boots_what_it_has_when_the_registry_expired_and_recovers_by_itself() {
    let registry = Registry::new();
    registry.publish(&lab::release()).ok();
    registry.trust_new_key("2027a", &registry.root_keys());
    registry.publish(&registry.release("2027a", NEXT)).ok();
    let server = registry.serve();
    let host = Host::with_registry(&server.url(), &registry.root());
    host.wait_offered(LAB);
    host.fetch_current(LAB).ok();
    let before = expires_at(&host);
    refresh_for(&registry, SignedDuration::from_secs(15));
    host.wait_registry("the short-lived metadata", |seen| seen["expires_at"] != before);
    // Nobody signs anew: it is over on the host's clock and on the server's.
    host.wait_problem("registry_frozen");
    assert_error(&host.fetch_current(NEXT), 1, "registry_frozen");
    host.run_script("true").ok();
    registry.registry(&["refresh"]).ok();
    host.wait_registry("fresh metadata", |seen| seen["problem"].is_null());
    host.fetch_current(NEXT).ok();
}

fn a_host_that_slept_through_three_roots_finds_its_way() {
    let registry = Registry::new();
    registry.publish(&lab::release()).ok();
    let first = registry.root();
    let mut keys = registry.root_keys();
    for year in ["root-2027", "root-2028", "root-2029"] {
        keys = registry.rotate_root(&[&keys], year);
    }
    let listed = registry.registry(&["list"]).ok().json();
    assert_eq!(listed["roles"][0]["version"], 4, "{listed}");
    registry.registry(&["gc", "--yes"]).ok();
    let host = Host::with_registry(text(&registry.store()), &first);
    host.wait_offered(LAB);
    let revoked = registry.revoke(&lab_key_id(), &keys).ok().json();
    host.wait_keyring(&revoked["version"]);
}

fn a_host_whose_first_look_fails_trusts_nothing_until_one_succeeds() {
    let registry = Registry::new();
    registry.publish(&lab::release()).ok();
    let mut server = registry.serve();
    server.stop();
    let host = Host::with_registry(&server.url(), &registry.root());
    host.wait_problem("registry_unreachable");
    assert_error(&install(&host, &lab::release()), 1, "manifest_unknown_key");
    server.again();
    host.wait_offered(LAB);
    host.fetch_current(LAB).ok();
}
