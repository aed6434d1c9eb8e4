//! The command's own words: its verbs, and what it says to what it does not understand.

use crate::operator::Operator;

/// Every verb under `args`, and those under them.
fn verbs(operator: &Operator, args: &[&str]) -> Vec<Vec<String>> {
    let ran = operator.plfm(&[args, &["--help"]].concat(), "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = ran.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help");
    let mut all = vec![args.iter().map(|arg| (*arg).to_owned()).collect()];
    for name in names {
        all.extend(verbs(operator, &[args, &[name]].concat()));
    }
    all
}

#[test]
fn every_verbs_help() {
    let operator = Operator::new();
    let verbs = verbs(&operator, &["admin"]);
    assert!(verbs.len() > 35, "{verbs:?}");
    let help = verbs.iter().map(|verb| {
        let verb: Vec<&str> = verb.iter().map(String::as_str).collect();
        // The short form: each option on a line.
        let ran = operator.plfm(&[&verb[..], &["-h"]].concat(), "");
        let own = ran.stdout.split("\nGlobal options:").next().unwrap_or_default();
        format!("$ plfm {} -h\n{}\n\n", verb.join(" "), own.trim_end())
    });
    insta::assert_snapshot!(help.collect::<String>());
}

#[test]
fn a_command_line_that_is_not_understood_changes_nothing_and_exits_with_2() {
    let operator = Operator::new();
    let mut seen = String::new();
    for args in [
        "",
        "events",
        "events --follow list",
        "kernels set-default",
        "kernels set-default x --timeout 5m",
        "kernels set-default x --wait --timeout soon",
        "kernels block x",
        "hosts list --state asleep",
        "hosts enroll-token --valid 1y",
        "policy canary x",
        "policy canary x --weight 5",
        "policy canary --none --weight 5%",
        "policy canary x --weight 5% --none",
        "policy window",
        "policy window --days mon",
        "policy window --days mo --start 02:30 --duration 3h --time-zone UTC",
        "policy window --days mon --start 2:30 --duration 3h --time-zone UTC",
        "policy window --days mon --start 02:30 --duration 90s --time-zone UTC",
        "policy window --none --start 02:30",
        "policy fetches many",
        "rollout start",
        "rollout start x --plan yearly",
        "rollout start x --threshold 10",
        "rollout start x --hosts-min 0",
        "rollout start x --slow stop",
        "rollout start x --watch --wait",
        "rollout start x --timeout 5m",
        "rollout pause x y",
        "tokens create x",
        "tokens create x --role king",
    ] {
        let args: Vec<&str> = args.split_whitespace().collect();
        let ran = operator.admin(&args);
        assert_eq!(ran.code, 2, "{args:?}");
        assert_eq!(ran.stdout, "", "{args:?}");
        if !args.is_empty() {
            seen += &ran.transcript();
        }
    }
    insta::assert_snapshot!(seen);
}

#[test]
fn without_a_control_plane_nothing_can_be_done() {
    let operator = Operator::new();
    insta::assert_snapshot!(operator.admin(&["fleet"]).transcript(), @r"
    $ plfm admin fleet
    error: no control plane is chosen
    hint: `plfm admin context add` makes one
    [2]
    ");
    let (document, code) = operator.json(&["kernels", "list"]);
    assert_eq!(
        (code, document["error"]["code"].as_str()),
        (2, Some("no_context"))
    );
}

#[test]
fn what_cannot_be_taken_back_needs_a_yes() {
    let operator = Operator::new();
    let mut seen = String::new();
    for args in [
        &["kernels", "rollback", "some-release"][..],
        &["hosts", "revoke", "host-1"],
        &["rollout", "promote"],
        &["tokens", "revoke", "01J"],
        &["hosts", "enroll-tokens", "revoke", "01J", "--no-input"],
    ] {
        seen += &operator.admin_with(args, "y\n").transcript();
        let (document, code) = operator.json(args);
        assert_eq!(
            (code, document["error"]["code"].as_str()),
            (2, Some("confirmation_needed"))
        );
        let (document, _) = operator.json(&[args, &["--yes"]].concat());
        assert_eq!(document["error"]["code"], "no_context");
    }
    insta::assert_snapshot!(seen);
}

#[test]
fn completions_are_for_every_shell_and_know_every_verb() {
    let operator = Operator::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = operator.plfm(&["completions", shell], "");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains("enroll-tokens"), "{shell}");
    }
    let ran = operator.plfm(&["completions", "bash", "--output", "json"], "");
    assert_eq!(ran.code, 2);
}

#[test]
fn there_is_a_man_page_for_every_verb() {
    let operator = Operator::new();
    let ran = operator.plfm(&["man", "--out", "man"], "");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let page = std::fs::read_to_string(operator.path("man/plfm-admin-kernels-set-default.1")).unwrap();
    assert!(page.contains("\\-\\-despite\\-unable\\-hosts"), "{page}");
    for verb in verbs(&operator, &["admin"]) {
        let page = format!("man/plfm-{}.1", verb.join("-"));
        assert!(operator.path(&page).exists(), "{page}");
    }
}
