//! What a release's provenance says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use plfm_build::assemble;

use crate::fixture::{inputs, key, release};

fn statement(envelope: &[u8]) -> Value {
    let envelope: Value = serde_json::from_slice(envelope).unwrap();
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let payload = BASE64.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[test]
fn it_is_an_in_toto_statement_with_a_slsa_predicate_about_both_artifacts() {
    let release = release("production");
    let statement = statement(&release.files()["provenance.json"]);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects = statement["subject"].as_array().unwrap();
    let [kernel, initramfs] = release.manifest().artifacts();
    for artifact in [&kernel, &initramfs] {
        let found = subjects
            .iter()
            .find(|subject| subject["name"] == artifact.name.to_string());
        assert_eq!(found.unwrap()["digest"]["sha256"], artifact.sha256.to_string());
    }
    assert_eq!(subjects.len(), 2);
}

#[test]
fn every_input_is_there_with_its_digest() {
    let mut inputs = inputs("production");
    let busybox = crate::fixture::program(500);
    inputs.busybox = Some(busybox.clone());
    let release = assemble(&inputs, &key('A')).unwrap();
    let statement = statement(&release.files()["provenance.json"]);
    let dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        .as_array()
        .unwrap();
    let names: Vec<_> = dependencies.iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "linux.tar.xz",
            "kernel-config-fragment",
            "guest-init",
            "busybox",
            "plfm"
        ]
    );
    assert_eq!(
        dependencies[3]["digest"]["sha256"],
        plfm_release::Sha256Digest::of(&busybox).to_string()
    );
    assert_eq!(dependencies[4]["digest"]["gitCommit"], "a".repeat(40));
}

#[test]
fn a_fault_on_purpose_is_recorded_and_nothing_is_said_of_faults_where_there_is_none() {
    let parameters = |inputs| {
        let release = assemble(&inputs, &key('A')).unwrap();
        statement(&release.files()["provenance.json"])["predicate"]["buildDefinition"]["externalParameters"]
            .clone()
    };
    assert_eq!(parameters(inputs("lab")).get("guest_init_fault"), None);
    let mut faulty = inputs("lab");
    faulty.guest_init.program.extend(b"plfm-faulty-guest-init:hang;");
    assert_eq!(parameters(faulty)["guest_init_fault"], "hang");
}

#[test]
fn openssl_takes_its_signature() {
    let release = release("production");
    let envelope: Value = serde_json::from_slice(&release.files()["provenance.json"]).unwrap();
    let text = |value: &Value| BASE64.decode(value.as_str().unwrap()).unwrap();
    let payload = text(&envelope["payload"]);
    let dir = tempfile::tempdir().unwrap();
    let mut signed = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len()).into_bytes();
    signed.extend(payload);
    std::fs::write(dir.path().join("signed"), signed).unwrap();
    std::fs::write(dir.path().join("sig"), text(&envelope["signatures"][0]["sig"])).unwrap();
    std::fs::write(dir.path().join("key.pem"), key('A').public_key().to_pem()).unwrap();
    let script = "command -v openssl >/dev/null || exit 77
        openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in signed -sigfile sig";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(dir.path())
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        eprintln!("skipped: no openssl");
        return;
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn it_holds_no_time_but_the_epoch() {
    let statement = statement(&release("production").files()["provenance.json"]).to_string();
    let year = jiff::Timestamp::now().strftime("%Y").to_string();
    let without_epoch = statement.replace("2025-12-17T19:33:20Z", "");
    assert_eq!(without_epoch.matches("T19:33").count(), 0);
    assert!(!without_epoch.contains(&format!("\"{year}-")), "{statement}");
    assert!(statement.contains("\"epoch\":1766000000"));
}
