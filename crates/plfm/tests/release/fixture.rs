//! A directory to work in, and a kernel source that is as small as one can be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const MAKEFILE: &str = r"VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 7
EXTRAVERSION =

allnoconfig:
	@echo '# CONFIG_SMP is not set' > .config
olddefconfig:
	@grep -v 'SMP is not set' .config > .config.new && mv .config.new .config
vmlinux:
	@echo '  AS      head.o'
	@gcc $(KCFLAGS) -nostdlib -static -Wl,--build-id=none -o vmlinux head.S
";

const HEAD: &str = r#".globl _start
_start: hlt
.section .note.Xen, "a", @note
.long 4, 8, 18
.asciz "Xen"
.quad 0x1000000
.section .note.GNU-stack, "", @progbits
"#;

pub struct Fixture {
    dir: tempfile::TempDir,
}

/// A command that ran.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Fixture {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `plfm` in the directory, in an environment with nothing of the caller's in it.
    pub fn plfm(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plfm"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let text = |bytes| self.redact(&String::from_utf8(bytes).unwrap());
        Ran {
            code: status.code().unwrap(),
            stdout: text(stdout),
            stderr: text(stderr),
        }
    }

    /// The JSON document that `plfm --output json` prints, and the exit code.
    pub fn json(&self, args: &[&str]) -> (Value, i32) {
        let ran = self.plfm(&[args, &["--output", "json"]].concat());
        let document = serde_json::from_str(&ran.stdout);
        (
            document.unwrap_or_else(|error| panic!("{error} in {:?}; {}", ran.stdout, ran.stderr)),
            ran.code,
        )
    }

    /// Puts words in the place of what differs from run to run.
    fn redact(&self, text: &str) -> String {
        let text = text.replace(self.dir.path().to_str().unwrap(), "DIR");
        let words = text.split_inclusive([' ', '\n', '"', ':', ',', ')']).map(|word| {
            let bare = word.trim_end_matches([' ', '\n', '"', ':', ',', ')']);
            let is_hex = |bare: &str| bare.len() == 64 && bare.bytes().all(|b| b.is_ascii_hexdigit());
            if is_hex(bare) {
                word.replace(bare, "HEX")
            } else {
                word.to_owned()
            }
        });
        words.collect()
    }

    pub fn kernel_source(&self) -> PathBuf {
        let tree = self.path("linux");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("Makefile"), MAKEFILE).unwrap();
        fs::write(tree.join("head.S"), HEAD).unwrap();
        let tarball = self.path("linux.tar");
        let mut tar = Command::new("tar");
        tar.args(["--create", "--mtime=2026-01-02 03:04:05Z", "--file"])
            .arg(&tarball);
        assert!(
            tar.arg("--directory")
                .arg(self.dir.path())
                .arg("linux")
                .status()
                .unwrap()
                .success()
        );
        tarball
    }

    /// Makes the key `dev` for staging.
    pub fn generate(&self) {
        let ran = self.plfm(&["release", "keys", "generate", "--out", "keys", "--name", "dev"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }

    /// Builds a release into `release`, with whatever else is in `more`. `None`, said aloud, where the tools for it
    /// are not installed.
    pub fn build(&self, more: &[&str]) -> Option<Ran> {
        self.build_with(&[], more)
    }

    /// The same, its guest init with something at its end.
    pub fn build_with(&self, end: &[u8], more: &[&str]) -> Option<Ran> {
        if !self.path("keys/dev.key").exists() {
            self.generate();
        }
        self.kernel_source();
        // The real one: a configuration that lacks what guests need is refused.
        let fragment = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernel/x86_64.config");
        fs::copy(fragment, self.path("fragment")).unwrap();
        fs::write(self.path("guest-init"), [&program(), end].concat()).unwrap();
        let common = [
            "release",
            "build",
            "--key",
            "keys/dev.key",
            "--out",
            "release",
            "--epoch",
            "1766000000",
            "--kernel-source",
            "linux.tar",
            "--kernel-config",
            "fragment",
            "--guest-init",
            "guest-init",
            "--guest-init-version",
            "1.0.0",
        ];
        let ran = self.plfm(&[&common[..], more].concat());
        if ran.stderr.contains("what is not installed") {
            eprintln!("skipped: {}", ran.stderr);
            return None;
        }
        Some(ran)
    }
}

/// A static program for x86_64 without any segment.
fn program() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0, 1]);
    bytes.resize(52, 0);
    bytes.extend_from_slice(&[64, 0, 56, 0]);
    bytes.resize(1000, 0);
    bytes
}

/// Every file of a directory with its content.
pub fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}
