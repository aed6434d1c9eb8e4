//! Guest init's build, on a checkout that is as small as one can be.

use std::fs;
use std::path::{Path, PathBuf};

use plfm_build::{Event, Fault, GuestInit, GuestInitError, build_guest_init, elf, fault_in, find_workspace};

const WORKSPACE: &str = r#"[workspace]
resolver = "3"
members = ["crates/*"]
[profile.guest]
inherits = "release"
opt-level = "z"
codegen-units = 1
panic = "abort"
strip = "symbols"
"#;

const PACKAGE: &str = r#"[package]
name = "plfm-guest-init"
version = "1.2.3-rc.1"
edition = "2024"
[[bin]]
name = "guest-init"
path = "src/main.rs"
[features]
fault-hang = []
fault-slow = []
"#;

/// Prints a path that the compiler knows as an absolute one, below the checkout.
const MAIN: &str = r#"include!(concat!(env!("OUT_DIR"), "/generated.rs"));
fn main() { assert!(std::env::args().count() > 7, "too few"); println!("{}", generated());
    #[cfg(feature = "fault-hang")] println!("plfm-faulty-guest-init:hang;");
    #[cfg(feature = "fault-slow")] println!("slow"); }"#;
const BUILD: &str = r#"fn main() {
    let path = std::path::Path::new(&std::env::var_os("OUT_DIR").unwrap()).join("generated.rs");
    std::fs::write(path, "fn generated() -> &'static str { file!() }").unwrap();
}"#;

fn checkout(dir: &Path) -> PathBuf {
    let workspace = dir.join("checkout");
    let package = workspace.join("crates/plfm-guest-init");
    fs::create_dir_all(package.join("src")).unwrap();
    fs::write(workspace.join("Cargo.toml"), WORKSPACE).unwrap();
    fs::write(package.join("Cargo.toml"), PACKAGE).unwrap();
    fs::write(package.join("src/main.rs"), MAIN).unwrap();
    fs::write(package.join("build.rs"), BUILD).unwrap();
    let lock = "version = 4\n\n[[package]]\nname = \"plfm-guest-init\"\nversion = \"1.2.3-rc.1\"\n";
    fs::write(workspace.join("Cargo.lock"), lock).unwrap();
    workspace
}

fn build(workspace: &Path) -> Result<GuestInit, GuestInitError> {
    build_with(workspace, None)
}

fn build_with(workspace: &Path, fault: Option<Fault>) -> Result<GuestInit, GuestInitError> {
    build_guest_init(workspace, fault, &mut |_: Event<'_>| ())
}

#[test]
fn guest_init_is_static_and_its_bytes_do_not_depend_on_the_checkouts_place() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = build(&checkout(one.path())).unwrap();
    let second = build(&checkout(&two.path().join("a longer/way"))).unwrap();
    assert_eq!(first.version.as_str(), "1.2.3-rc.1");
    elf::check_static_program("guest init", &first.program).unwrap();
    assert!(first.program == second.program, "the bytes differ");
    let text = String::from_utf8_lossy(&first.program).into_owned();
    for path in [one.path(), Path::new(env!("HOME"))] {
        assert!(!text.contains(path.to_str().unwrap()), "{} shows", path.display());
    }
}

#[test]
fn a_fault_is_in_the_program_only_when_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = checkout(dir.path());
    let faulty = build_with(&workspace, Some(Fault::Hang)).unwrap();
    assert_eq!(fault_in(&faulty.program).as_deref(), Some("hang"));
    let good = build(&workspace).unwrap();
    assert_eq!(fault_in(&good.program), None);
    // Built after the faulty one and from the same checkout, it is what a checkout without faults gives.
    let apart = tempfile::tempdir().unwrap();
    assert!(
        build(&checkout(apart.path())).unwrap().program == good.program,
        "the bytes differ"
    );
}

#[test]
fn a_checkout_that_does_not_mark_its_fault_gives_no_faulty_guest_init() {
    let dir = tempfile::tempdir().unwrap();
    let error = build_with(&checkout(dir.path()), Some(Fault::Slow)).unwrap_err();
    assert_eq!(error.code(), "guest_init_fault_missing");
    assert_eq!(
        error.to_string(),
        "the guest init that was to have the fault slow has none"
    );
}

#[test]
fn a_compilers_message_is_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = checkout(dir.path());
    fs::write(
        workspace.join("crates/plfm-guest-init/src/main.rs"),
        "fn main() { nonsense }",
    )
    .unwrap();
    let error = build(&workspace).unwrap_err();
    assert_eq!(error.code(), "guest_init_build_failed");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("nonsense"), "{cause}");
}

#[test]
fn a_directory_without_guest_init_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = build(dir.path()).unwrap_err();
    assert_eq!(error.code(), "guest_init_source_missing");
    assert_eq!(find_workspace(dir.path()), None);
    let workspace = checkout(dir.path());
    assert_eq!(find_workspace(&workspace.join("crates")), Some(workspace));
}

/// A minute of compilation.
#[test]
#[ignore = "compiles the real guest init"]
fn the_projects_guest_init_is_static_and_small() {
    let workspace = find_workspace(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let guest_init = build(&workspace).unwrap();
    elf::check_static_program("guest init", &guest_init.program).unwrap();
    assert!(guest_init.program.len() < plfm_build::GUEST_INIT_BYTES_MAX);
    assert_eq!(fault_in(&guest_init.program), None);
    let text = String::from_utf8_lossy(&guest_init.program).into_owned();
    assert!(
        !text.contains(workspace.to_str().unwrap()),
        "the checkout's path shows"
    );
    eprintln!("{:?}: {} bytes", guest_init.version, guest_init.program.len());
}

/// A minute for the first, seconds for the others.
#[test]
#[ignore = "compiles the real guest init, with every fault"]
fn the_projects_faulty_guest_inits_are_marked() {
    let workspace = find_workspace(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    for fault in Fault::ALL {
        let guest_init = build_with(&workspace, Some(fault)).unwrap();
        assert_eq!(fault_in(&guest_init.program).as_deref(), Some(fault.as_str()));
    }
}
