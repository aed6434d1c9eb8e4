//! What the documents name is there: no test that they count on was renamed or removed. Needs no lab.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The documents that count on tests by name.
const DOCUMENTS: [&str; 2] = ["docs/security.md", "ARCHITECTURE.md"];
/// Fewer names than this, and they were not found where they are.
const NAMES_MIN: usize = 100;
/// A name without a module is a test's if it has at least so many words: commands and codes have fewer.
const WORDS_MIN: usize = 5;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Every Rust file under `dir`.
fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The tests, and functions, that there are, each with the modules that have one of that name.
struct Tests(BTreeMap<String, BTreeSet<String>>);

impl Tests {
    fn load() -> Self {
        let mut files = Vec::new();
        for dir in ["crates", "tests"] {
            rust_files(&workspace().join(dir), &mut files);
        }
        let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for file in files {
            let modules = modules_of(&file);
            for name in tests_in(&std::fs::read_to_string(&file).unwrap()) {
                tests.entry(name).or_default().extend(modules.iter().cloned());
            }
        }
        Self(tests)
    }

    /// Whether there is what a document names: `module::name`, `module::*`, or a name.
    fn has(&self, name: &str) -> bool {
        match name.rsplit_once("::") {
            Some((modules, "*")) => self.0.values().any(|all| all.contains(last(modules))),
            Some((modules, name)) => {
                let modules: Vec<&str> = modules.split("::").filter(|module| *module != "tests").collect();
                let found = self.0.get(name);
                found.is_some_and(|all| modules.iter().all(|module| all.contains(*module)))
            }
            None => self.0.contains_key(name),
        }
    }
}

fn last(modules: &str) -> &str {
    modules.rsplit("::").next().unwrap_or(modules)
}

/// The parts of a file's path that are modules: `src/retention/tests.rs` is in `retention` and `tests`.
fn modules_of(file: &Path) -> BTreeSet<String> {
    let path = file.with_extension("");
    let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
    parts.collect()
}

/// The functions of a file, and the trials that it names by a text.
fn tests_in(text: &str) -> impl Iterator<Item = String> + '_ {
    let trials = text.lines().filter_map(|line| {
        let (_, after) = line.split_once("trial(lab, \"")?;
        after.split_once('"').map(|(name, _)| name.to_owned())
    });
    functions_in(text).chain(trials)
}

fn functions_in(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| {
        let (before, after) = line.split_once("fn ")?;
        let words = ["", "pub", "async", "pub async", "pub(crate)", "const"];
        let name: String = after
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        (words.contains(&before.trim()) && !name.is_empty()).then_some(name)
    })
}

/// What stands between single backticks and looks like a test's name.
fn test_names(document: &str) -> BTreeSet<String> {
    let mut is_block = false;
    let mut names = BTreeSet::new();
    for line in document.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            let quoted = line.split('`').skip(1).step_by(2);
            names.extend(quoted.filter(|text| is_test_name(text)).map(str::to_owned));
        }
    }
    names
}

fn is_test_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:*".contains(c);
    text.chars().all(plain) && (text.contains("::") || text.split('_').count() >= WORDS_MIN)
}

#[test]
fn every_test_that_the_documents_name_exists() {
    let tests = Tests::load();
    let mut found = 0;
    for document in DOCUMENTS {
        let names = test_names(&std::fs::read_to_string(workspace().join(document)).unwrap());
        let missing: Vec<_> = names.iter().filter(|name| !tests.has(name)).collect();
        assert!(
            missing.is_empty(),
            "{document} names what there is not: {missing:#?}"
        );
        found += names.len();
    }
    assert!(found >= NAMES_MIN, "only {found} names were found");
}

#[test]
fn every_ceremony_is_in_the_security_document() {
    let ceremonies = workspace().join("tests/e2e/tests/e2e/ceremonies.rs");
    let text = std::fs::read_to_string(ceremonies).unwrap();
    let (_, facts) = text.split_once("facts![").unwrap();
    let (facts, _) = facts.split_once(']').unwrap();
    let document = std::fs::read_to_string(workspace().join("docs/security.md")).unwrap();
    let named = test_names(&document);
    let facts = facts.split(',').map(str::trim).filter(|fact| !fact.is_empty());
    let missing: Vec<_> = facts
        .filter(|fact| !named.contains(&format!("ceremonies::{fact}")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/security.md does not say what shows: {missing:#?}"
    );
}

#[test]
fn a_name_that_is_not_there_is_missed() {
    let tests = Tests::load();
    assert!(tests.has("documents::a_name_that_is_not_there_is_missed"));
    assert!(!tests.has("ceremonies::a_name_that_is_not_there_is_missed"));
    assert!(!tests.has("documents::a_name_that_nobody_has"));
    assert!(!tests.has("no_such_module::*"));
    let named = test_names("| `a::b_c` | `not` and `one_two_three_four_five` |\n```\n`x::y`\n```\n");
    assert_eq!(
        named,
        BTreeSet::from(["a::b_c".to_owned(), "one_two_three_four_five".to_owned()])
    );
}
