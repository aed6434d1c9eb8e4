//! `plfm admin context`, and what the environment says instead.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::operator::{Operator, mode};

/// A CA's certificate.
fn ca() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.self_signed(&key).unwrap().pem()
}

/// An operator with a CA's certificate and a token in files.
fn operator() -> Operator {
    let operator = Operator::new();
    operator.write("ca.pem", &ca());
    operator.write("token", "plfm_op_secret\n");
    operator
}

fn add<'a>(name: &'a str, url: &'a str) -> Vec<&'a str> {
    vec![
        "context",
        "add",
        name,
        "--url",
        url,
        "--ca",
        "ca.pem",
        "--token-file",
        "token",
    ]
}

#[test]
fn contexts_are_added_chosen_and_forgotten() {
    let operator = operator();
    let mut seen = String::new();
    seen += &operator.admin(&["context", "list"]).ok();
    seen += &operator.admin(&add("prod", "https://control.example:8443")).ok();
    let without_file = [
        "context",
        "add",
        "eu",
        "--url",
        "https://eu.example",
        "--ca",
        "ca.pem",
    ];
    seen += &operator.admin_with(&without_file, "plfm_op_other\n").ok();
    seen += &operator.admin(&["context", "list"]).ok();
    seen += &operator.admin(&["context", "use", "eu"]).ok();
    seen += &operator.admin(&["context", "list"]).ok();
    seen += &operator.admin(&["context", "remove", "eu"]).ok();
    seen += &operator.admin(&["context", "list", "--output", "json"]).ok();
    insta::assert_snapshot!(seen);
}

#[test]
fn what_is_wrong_with_a_context_is_said() {
    let operator = operator();
    operator.write("empty", "");
    operator.write("key.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    operator.admin(&add("prod", "https://control.example")).ok();
    let mut seen = String::new();
    for args in [
        &add("prod", "https://control.example")[..],
        &add("-x", "https://control.example"),
        &add("a b", "https://control.example"),
        &add("b", "http://control.example"),
        &add("b", "https://name:word@control.example"),
        &[
            "context",
            "add",
            "b",
            "--url",
            "https://c",
            "--ca",
            "none.pem",
            "--token-file",
            "token",
        ],
        &[
            "context",
            "add",
            "b",
            "--url",
            "https://c",
            "--ca",
            "key.pem",
            "--token-file",
            "token",
        ],
        &[
            "context",
            "add",
            "b",
            "--url",
            "https://c",
            "--ca",
            "ca.pem",
            "--token-file",
            "empty",
        ],
        &[
            "context",
            "add",
            "b",
            "--url",
            "https://c",
            "--ca",
            "ca.pem",
            "--token-file",
            "none",
        ],
        &["context", "add", "b", "--url", "https://c", "--ca", "ca.pem"],
        &[
            "context",
            "add",
            "b",
            "--url",
            "https://c",
            "--ca",
            "ca.pem",
            "--token",
            "plfm_op_secret",
        ],
        &["context", "use", "none"],
        &["context", "remove", "none", "--output", "json"],
        &["whoami", "--context", "none"],
    ] {
        let ran = operator.admin(args);
        assert_ne!(ran.code, 0, "{args:?}");
        seen += &ran.transcript();
    }
    insta::assert_snapshot!(seen);
    let kept = fs::read_to_string(operator.config()).unwrap();
    assert!(!kept.contains("https://c\""), "{kept}");
}

#[test]
fn the_file_is_its_owners_alone_or_not_read() {
    let operator = operator();
    operator.admin(&add("prod", "https://control.example")).ok();
    assert_eq!(mode(&operator.config()), 0o600);
    let mut permissions = fs::metadata(operator.config()).unwrap().permissions();
    permissions.set_mode(0o644);
    fs::set_permissions(operator.config(), permissions).unwrap();
    let ran = operator.admin(&["whoami"]);
    insta::assert_snapshot!(ran.transcript(), @r"
    $ plfm admin whoami
    error: HOME/.config/plfm/config.toml holds tokens, and others than its owner can read or write it (mode 0644)
    hint: chmod 600 HOME/.config/plfm/config.toml; and take back the tokens in it if anybody did
    [1]
    ");
    let ran = operator.admin(&add("other", "https://control.example"));
    assert_eq!(ran.code, 1, "{}", ran.transcript());
}

#[test]
fn no_token_is_ever_shown() {
    let operator = operator();
    operator.admin(&add("prod", "https://127.0.0.1:1")).ok();
    for args in [&["context", "list"][..], &["whoami"], &["context", "use", "prod"]] {
        let ran = operator.admin(&[args, &["--output", "json"]].concat());
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!all.contains("secret"), "{all}");
    }
}

#[test]
fn the_environment_comes_before_the_file_but_gets_no_token_of_it() {
    let operator = operator();
    operator.admin(&add("prod", "https://127.0.0.1:1")).ok();
    let mut seen = String::new();
    let operator = operator.with_env("PLFM_CONTROL_URL", "https://127.0.0.1:2");
    seen += &operator.admin(&["whoami"]).transcript();
    let operator = operator.with_env("PLFM_CONTROL_TOKEN", "two words");
    seen += &operator.admin(&["whoami"]).transcript();
    let operator = operator.with_env("PLFM_CONTROL_TOKEN", "plfm_op_other");
    seen += &operator.admin(&["whoami"]).transcript();
    let operator = operator.with_env("PLFM_CONTROL_CA", "none.pem");
    seen += &operator.admin(&["whoami"]).transcript();
    let operator = operator
        .with_env("PLFM_CONTROL_URL", "")
        .with_env("PLFM_CONTROL_CA", "");
    let operator = operator.with_env("PLFM_CONTEXT", "other");
    seen += &operator.admin(&["whoami"]).transcript();
    insta::assert_snapshot!(seen);
}
