//! An operator: a home of their own, and the command.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::redact::redact;

/// An operator's home.
pub struct Operator {
    home: tempfile::TempDir,
    env: Vec<(String, String)>,
}

/// A command that ran.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    transcript: String,
}

impl Operator {
    pub fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            env: Vec::new(),
        }
    }

    /// The same one, with a variable in the environment.
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path(".config/plfm/config.toml")
    }

    /// Writes a file in the home.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// `plfm admin …`, with nothing of the caller's environment and an input that is at its end.
    pub fn admin(&self, args: &[&str]) -> Ran {
        self.admin_with(args, "")
    }

    /// `plfm admin …`, with something to read.
    pub fn admin_with(&self, args: &[&str], input: &str) -> Ran {
        self.plfm(&[&["admin"], args].concat(), input)
    }

    /// The JSON document that `plfm admin … --output json` prints, and the exit code.
    pub fn json(&self, args: &[&str]) -> (Value, i32) {
        let ran = self.admin(&[args, &["--output", "json"]].concat());
        let document = serde_json::from_str(&ran.stdout);
        (
            document.unwrap_or_else(|error| panic!("{error} in {:?}; {}", ran.stdout, ran.stderr)),
            ran.code,
        )
    }

    pub fn plfm(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap();
        let transcript = format!("$ plfm {}\n{stdout}{stderr}[{code}]\n", args.join(" "));
        Ran {
            transcript: self.hide_home(&transcript),
            stdout,
            stderr,
            code,
        }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plfm"));
        command
            .args(args)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn hide_home(&self, text: &str) -> String {
        text.replace(self.home.path().to_str().unwrap(), "HOME")
    }
}

impl Ran {
    /// What an operator sees: the command, what it printed on either stream, its exit code.
    pub fn transcript(&self) -> String {
        redact(&self.transcript)
    }

    /// The same of a command that must have succeeded.
    pub fn ok(&self) -> String {
        assert_eq!(self.code, 0, "{}", self.transcript);
        self.transcript()
    }
}

/// Permissions of a file.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
