//! The kernel's build, on a source tree that is as small as one can be, and (on request) on a real one.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use plfm_build::{
    BuiltKernel, Event, Fragment, KERNEL_FRAGMENT_DEFAULT, KERNEL_NEEDS, KERNEL_SOURCE_DEFAULT, KernelError,
    KernelInputs, KernelNeed, KernelOrigin, KernelTree, Phase, build_kernel, kernel_cache_dir,
};

/// A kernel of one instruction, whose `olddefconfig` drops CONFIG_UNMET as a real one would.
const MAKEFILE: &str = r#"VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 7
EXTRAVERSION =

allnoconfig:
	@echo '# CONFIG_SMP is not set' > .config
olddefconfig:
	@grep -v -e UNMET -e 'SMP is not set' .config > .config.new && mv .config.new .config
vmlinux:
	@echo "  CC      init/main.o"
	@echo "  AS      head.o"
	@if grep -q BROKEN .config; then echo "main.c:1: error: broken" >&2; exit 1; fi
	@printf '.string "%s %s %s"\n' "$(KBUILD_BUILD_TIMESTAMP)" "$(KBUILD_BUILD_USER)" "$(USER)" > version.S
	@gcc $(KCFLAGS) -nostdlib -static -Wl,--build-id=none -o vmlinux head.S
"#;

const HEAD: &str = r#".globl _start
_start: hlt
.include "version.S"
.section .note.Xen, "a", @note
.long 4, 8, 18
.asciz "Xen"
.quad 0x1000000
.section .note.GNU-stack, "", @progbits
"#;

fn tarball(dir: &Path, makefile: &str) -> PathBuf {
    let tree = dir.join("linux");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("Makefile"), makefile).unwrap();
    fs::write(tree.join("head.S"), HEAD).unwrap();
    let path = dir.join("linux.tar");
    let status = Command::new("tar")
        .args(["--create", "--mtime=2026-01-02 03:04:05Z", "--file"])
        .arg(&path)
        .arg("--directory")
        .arg(dir)
        .arg("linux")
        .status();
    assert!(status.unwrap().success());
    path
}

fn inputs(dir: &Path, fragment: &str) -> KernelInputs {
    KernelInputs {
        source: tarball(dir, MAKEFILE),
        fragment: fragment.into(),
        needs: &[],
        cache: dir.join("cache"),
        jobs: NonZeroUsize::MIN,
    }
}

fn build(inputs: &KernelInputs) -> Result<BuiltKernel, KernelError> {
    build_kernel(inputs, &mut |_: Event<'_>| ())
}

/// Says why a test can't run here, where it can't.
fn can_build() -> bool {
    let dir = tempfile::tempdir().unwrap();
    match build(&inputs(dir.path(), "CONFIG_SMP=y\n")) {
        Err(KernelError::MissingTools { things, .. }) => {
            eprintln!("skipped: not installed: {}", things.join(", "));
            false
        }
        _ => true,
    }
}

#[test]
fn a_kernel_is_compiled_once_and_then_found() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path(), "CONFIG_SMP=y\nCONFIG_PCI=n\n");
    let mut events = Vec::new();
    let first = build_kernel(&inputs, &mut |event: Event<'_>| events.push(format!("{event:?}"))).unwrap();
    assert_eq!(
        (first.version.as_str(), first.origin),
        ("6.1.7", KernelOrigin::Compiled)
    );
    assert!(
        events.contains(&format!("{:?}", Event::KernelObjects { built: 2 })),
        "{events:?}"
    );
    assert_eq!(
        events.last().unwrap(),
        &format!("{:?}", Event::Finished(Phase::CompileKernel))
    );
    let second = build(&inputs).unwrap();
    assert_eq!(second.origin, KernelOrigin::Cached);
    assert_eq!((second.image, second.config), (first.image, first.config));
    let left: Vec<_> = fs::read_dir(&inputs.cache)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".partial")),
        "{left:?}"
    );
}

#[test]
fn the_bytes_depend_neither_on_the_directory_nor_on_the_environment() {
    if !can_build() {
        return;
    }
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = build(&inputs(one.path(), "CONFIG_SMP=y\n")).unwrap();
    let mut other = inputs(two.path(), "CONFIG_SMP=y\n");
    other.jobs = NonZeroUsize::new(7).unwrap();
    let second = build(&other).unwrap();
    assert_eq!(second.origin, KernelOrigin::Compiled);
    assert_eq!(first.image, second.image);
    let text = String::from_utf8_lossy(&first.image).into_owned();
    assert!(
        text.contains("Fri Jan  2 03:04:05 UTC 2026 plfm \0"),
        "the builder's environment shows"
    );
}

#[test]
fn another_fragment_is_another_kernel() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let first = build(&inputs(dir.path(), "CONFIG_SMP=y\n")).unwrap();
    let second = build(&inputs(dir.path(), "CONFIG_SMP=y\nCONFIG_NET=y\n")).unwrap();
    assert_eq!(second.origin, KernelOrigin::Compiled);
    assert_ne!(first.record.digest(), second.record.digest());
}

#[test]
fn a_comment_makes_no_other_kernel() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let first = build(&inputs(dir.path(), "CONFIG_SMP=y\n")).unwrap();
    let second = build(&inputs(dir.path(), "# why\n\nCONFIG_SMP=y\n")).unwrap();
    assert_eq!(second.origin, KernelOrigin::Cached);
    assert_ne!(first.fragment_sha256, second.fragment_sha256);
}

#[test]
fn an_option_that_did_not_survive_stops_the_build_and_is_named() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let error = build(&inputs(dir.path(), "CONFIG_SMP=y\nCONFIG_UNMET=y\n")).unwrap_err();
    assert_eq!(error.code(), "kernel_config_dropped");
    assert!(error.to_string().ends_with("CONFIG_UNMET=y (is n)"), "{error}");
}

const PRESSURE: &[KernelNeed] = &[KernelNeed {
    purpose: "pressure",
    options: &["PSI"],
}];

#[test]
fn a_need_that_nobody_asked_for_stops_the_build_before_it_compiles() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut inputs = inputs(dir.path(), "CONFIG_SMP=y\n");
    inputs.needs = PRESSURE;
    let mut compiled = false;
    let error = build_kernel(&inputs, &mut |event: Event<'_>| {
        compiled |= event == Event::Started(Phase::CompileKernel);
    })
    .unwrap_err();
    assert_eq!((error.code(), compiled), ("kernel_config_insufficient", false));
    assert!(error.to_string().ends_with("pressure (CONFIG_PSI)"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_cached_kernel_must_have_what_is_needed_too() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut inputs = inputs(dir.path(), "CONFIG_SMP=y\n");
    build(&inputs).unwrap();
    inputs.needs = PRESSURE;
    assert_eq!(build(&inputs).unwrap_err().code(), "kernel_config_insufficient");
}

#[test]
fn one_tree_gives_the_kernels_that_releases_have() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path(), "CONFIG_SMP=y\n");
    let release = build(&inputs).unwrap();
    let fragment = Fragment::parse(&inputs.fragment).unwrap();
    let mut unpacked = 0;
    for _ in 0..2 {
        let mut count =
            |event: Event<'_>| unpacked += u32::from(event == Event::Started(Phase::UnpackKernel));
        let tree = KernelTree::open(&inputs, &dir.path().join("trees"), &mut count).unwrap();
        let other = tree
            .build(&fragment.with(&[("CONFIG_NET", "y")]), &mut count)
            .unwrap();
        let same = tree.build(&fragment, &mut count).unwrap();
        assert!(String::from_utf8_lossy(&other.config).contains("CONFIG_NET=y"));
        assert_eq!(
            (same.image, same.config),
            (release.image.clone(), release.config.clone())
        );
    }
    assert_eq!(unpacked, 1);
}

#[test]
fn a_compilers_message_is_in_the_error_and_nothing_is_cached() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path(), "CONFIG_BROKEN=y\n");
    let error = build(&inputs).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(error.code(), "kernel_build_failed");
    assert!(cause.contains("main.c:1: error: broken"), "{cause}");
    let directories = fs::read_dir(&inputs.cache)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().is_dir());
    assert_eq!(directories.count(), 0);
}

#[test]
fn a_damaged_kernel_is_built_again() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path(), "CONFIG_SMP=y\n");
    let first = build(&inputs).unwrap();
    let image = inputs
        .cache
        .join(first.record.digest().to_string())
        .join("vmlinux");
    let mut bytes = fs::read(&image).unwrap();
    bytes[100] ^= 1;
    fs::write(&image, bytes).unwrap();
    let second = build(&inputs).unwrap();
    assert_eq!(
        (second.origin, second.image),
        (KernelOrigin::Compiled, first.image)
    );
}

#[test]
fn a_tarball_of_something_else_is_refused() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut inputs = inputs(dir.path(), "CONFIG_SMP=y\n");
    inputs.source = tarball(dir.path(), "all:\n\ttrue\n");
    assert_eq!(build(&inputs).unwrap_err().code(), "kernel_source_malformed");
}

#[test]
fn a_source_that_is_not_there_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut inputs = inputs(dir.path(), "");
    inputs.source = dir.path().join("none.tar.xz");
    let error = build(&inputs).unwrap_err();
    assert_eq!(error.code(), "kernel_source_unreadable");
    assert!(error.to_string().contains("none.tar.xz") && error.hint().is_some());
}

/// Minutes of compilation, once; then the cache has it.
#[test]
#[ignore = "compiles a real kernel"]
fn the_default_kernel_is_built_from_debians_source() {
    let env = std::env::var_os;
    let inputs = KernelInputs {
        source: KERNEL_SOURCE_DEFAULT.into(),
        fragment: KERNEL_FRAGMENT_DEFAULT.into(),
        needs: KERNEL_NEEDS,
        cache: kernel_cache_dir(env("XDG_CACHE_HOME"), env("HOME")).unwrap(),
        jobs: std::thread::available_parallelism().unwrap(),
    };
    let kernel = build(&inputs).unwrap();
    assert!(
        kernel.version.as_str().starts_with("6.1."),
        "{:?}",
        kernel.version
    );
    assert!(kernel.image.len() > 1 << 20);
}
