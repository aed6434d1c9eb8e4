//! `docs/kernel.md` against the configuration and the needs: each option has its reason there, and no reason is left
//! of an option that went.

use std::collections::BTreeSet;

use plfm_build::{Fragment, KERNEL_FRAGMENT_DEFAULT, KERNEL_NEEDS};

const DOCS: &str = include_str!("../../../../docs/kernel.md");

/// The rows of the table in the section with this heading: their cells, without the table's own two head lines.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let section = DOCS.lines().skip_while(|line| *line != heading).skip(1);
    let rows = section
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.skip(1).map(|row| row.split(" | ").collect()).collect()
}

/// What stands between backticks.
fn names(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_option_has_a_reason_and_every_reason_an_option() {
    let rows = table("## Why each option is there");
    let mut documented = BTreeSet::new();
    for row in &rows {
        let [_, options, why, _] = row.as_slice() else {
            panic!("not group, options, why, cost: {row:?}")
        };
        assert!(!why.is_empty(), "no reason for {options}");
        for option in names(options) {
            assert!(documented.insert(option.to_owned()), "{option} is there twice");
        }
    }
    let fragment = Fragment::parse(KERNEL_FRAGMENT_DEFAULT.as_bytes()).unwrap();
    let asked: BTreeSet<_> = fragment
        .options()
        .map(
            |(option, value)| match (option.trim_start_matches("CONFIG_"), value) {
                (option, "y") => option.to_owned(),
                (option, value) => format!("{option}={value}"),
            },
        )
        .collect();
    let without_reason: Vec<_> = asked.difference(&documented).collect();
    let left_over: Vec<_> = documented.difference(&asked).collect();
    assert!(
        without_reason.is_empty() && left_over.is_empty(),
        "without a reason in docs/kernel.md: {without_reason:?}\nthere, but not asked for: {left_over:?}"
    );
}

#[test]
fn the_needs_are_those_that_the_build_checks() {
    let documented: Vec<_> = table("## What guests need")
        .iter()
        .map(|row| row.join(" | "))
        .collect();
    let checked: Vec<_> = KERNEL_NEEDS
        .iter()
        .map(|need| format!("{} | `{}`", need.purpose, need.options.join("`, `")))
        .collect();
    assert_eq!(documented, checked);
}
