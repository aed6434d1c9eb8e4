//! The two texts that are no messages: the secrets file and the kernel command line.

use std::collections::BTreeMap;

use plfm_guest_protocol::*;
use proptest::prelude::*;

use crate::corpus::fuzz;

/// Entries of a good secrets file: key and value as written.
fn entries() -> impl Strategy<Value = BTreeMap<String, String>> {
    let raw = "[^\r\n\0]{0,40}".prop_filter("not base64", |value| !value.starts_with("base64:"));
    let value = prop_oneof![
        raw,
        "([A-Za-z0-9+/]{4}){0,8}".prop_map(|text| format!("base64:{text}"))
    ];
    proptest::collection::btree_map("[A-Z_][A-Z0-9_]{0,30}", value, 0..12)
}

proptest! {
    #[test]
    fn a_printed_secrets_file_has_its_keys(entries in entries(), comments: bool, last_newline: bool) {
        let mut text = "# TRC_SECRETS_V1".to_owned();
        for (key, value) in &entries {
            if comments {
                text.push_str("\n\n# KEY=value, not an entry");
            }
            text.push_str(&format!("\n{key}={value}"));
        }
        if last_newline {
            text.push('\n');
        }
        let file = SecretsFile::parse(text.as_bytes()).unwrap();
        prop_assert!(file.keys().iter().eq(entries.keys()));
        fuzz::secrets::check(text.as_bytes());
    }

    #[test]
    fn lines_that_look_like_secrets_hold_what_the_target_checks(
        lines in proptest::collection::vec(
            prop_oneof!["[A-C]=[a-z=# \r\0]{0,4}", "#.{0,6}", "base64:", "", "[A-Z_a-z0-9]{1,3}=?(base64:)?[a-zA-Z=]{0,6}"],
            0..8,
        ),
    ) {
        fuzz::secrets::check(format!("# TRC_SECRETS_V1\n{}", lines.join("\n")).as_bytes());
    }

    #[test]
    fn an_id_is_found_wherever_it_stands(
        before in "[a-z=. ]{0,30}", id in "[A-Za-z0-9_-]{1,64}", after in proptest::collection::vec("[a-z=.]{1,9}", 0..4),
    ) {
        let line = format!("{before} plfm.instance_id={id} {}\n", after.join(" "));
        prop_assert_eq!(Cmdline::parse(&line).unwrap().instance_id, id);
    }

    #[test]
    fn any_command_line_is_read_as_the_target_reads_it(bytes: Vec<u8>, key: bool) {
        let mut line = bytes;
        if key {
            line.splice(0..0, *b"plfm.instance_id=");
        }
        fuzz::cmdline::check(&line);
    }
}

#[test]
fn the_limits_of_a_secrets_file_are_exact() {
    let parse = |line: &str| SecretsFile::parse(format!("# TRC_SECRETS_V1\n{line}\n").as_bytes());
    let key = |length: usize| "K".repeat(length);
    parse(&format!("{}=", key(128))).unwrap();
    assert_eq!(parse(&format!("{}=", key(129))), Err(SecretsError::NotAnEntry(2)));
    parse(&format!("A={}", "x".repeat(8_192))).unwrap();
    // 65,535 and 65,538 decoded bytes; 65,536 needs padding.
    parse(&format!("A=base64:{}", "AAAA".repeat(21_845))).unwrap();
    parse(&format!("A=base64:{}AA==", "AAAA".repeat(21_845))).unwrap();
    assert_eq!(
        parse(&format!("A=base64:{}AAA=", "AAAA".repeat(21_845))),
        Err(SecretsError::ValueTooLong(2))
    );
    let many = |count: usize| (0..count).map(|n| format!("K{n}=1\n")).collect::<String>();
    assert_eq!(parse(&many(256)).unwrap().keys().len(), 256);
    assert_eq!(parse(&many(257)), Err(SecretsError::TooManyKeys));
    let comment = |length: usize| format!("#{}", "x".repeat(length - "# TRC_SECRETS_V1\n#\n".len()));
    parse(&comment(SECRETS_BYTES_MAX)).unwrap();
    assert_eq!(
        parse(&comment(SECRETS_BYTES_MAX + 1)),
        Err(SecretsError::TooLarge)
    );
}
