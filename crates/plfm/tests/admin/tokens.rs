//! `plfm admin tokens` and `whoami`.

use plfm_api::control::Role;

use crate::fleet::Fleet;
use crate::operator::mode;

#[test]
fn a_token_is_made_used_and_taken_back() {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    let mut seen = operator
        .admin(&["tokens", "create", "ci", "--role", "operator"])
        .ok();
    let to_file = [
        "tokens",
        "create",
        "eve",
        "--role",
        "viewer",
        "--valid",
        "7d",
        "--out",
        "eve.token",
    ];
    seen += &operator.admin(&to_file).ok();
    assert_eq!(mode(&operator.path("eve.token")), 0o600);
    let token = std::fs::read_to_string(operator.path("eve.token")).unwrap();
    seen += &operator.admin(&["tokens", "list"]).ok();
    let (tokens, _) = operator.json(&["tokens", "list"]);
    let eve = tokens["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|token| token["name"] == "eve")
        .unwrap();
    let id = eve["id"].as_str().unwrap();
    let operator = operator.with_env("PLFM_CONTROL_TOKEN", token.trim());
    seen += &operator.admin(&["whoami"]).ok();
    let operator = operator.with_env("PLFM_CONTROL_TOKEN", "");
    seen += &operator
        .admin(&["tokens", "revoke", id, "--yes", "--reason", "she left"])
        .ok();
    seen += &operator.admin(&["tokens", "list"]).ok();
    let operator = operator.with_env("PLFM_CONTROL_TOKEN", token.trim());
    let ran = operator.admin(&["whoami"]);
    assert_eq!(ran.code, 3);
    seen += &ran.transcript();
    insta::assert_snapshot!(seen);
}

#[test]
fn the_same_as_json() {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    let create = ["tokens", "create", "ci", "--role", "viewer", "--output", "json"];
    let mut seen = operator.admin(&create).ok();
    seen += &operator.admin(&[&create[..], &["--out", "token"]].concat()).ok();
    seen += &operator.admin(&["tokens", "list", "--output", "json"]).ok();
    seen += &operator.admin(&["whoami", "--output", "json"]).ok();
    insta::assert_snapshot!(seen);
}

#[test]
fn what_is_refused_says_why() {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    let (whoami, _) = operator.json(&["whoami"]);
    let own = whoami["id"].as_str().unwrap();
    let by_operator = fleet.operator_as(Role::Operator);
    let mut seen = String::new();
    for (operator, code, args) in [
        (&operator, 5, &["tokens", "revoke", own, "--yes"][..]),
        (&operator, 4, &["tokens", "revoke", "01JZ", "--yes"]),
        (
            &operator,
            2,
            &["tokens", "create", "x", "--role", "viewer", "--valid", "10s"],
        ),
        (&operator, 2, &["tokens", "create", "", "--role", "viewer"]),
        (&by_operator, 3, &["tokens", "create", "x", "--role", "admin"]),
    ] {
        let ran = operator.admin(args);
        seen += &ran.transcript();
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (code, ""),
            "{}",
            ran.transcript()
        );
    }
    insta::assert_snapshot!(seen);
}

#[test]
fn a_token_that_is_none_is_not_let_in() {
    let fleet = Fleet::start();
    let operator = fleet.operator().with_env("PLFM_CONTROL_TOKEN", "plfm_op_wrong");
    insta::assert_snapshot!(operator.admin(&["fleet"]).transcript());
}
