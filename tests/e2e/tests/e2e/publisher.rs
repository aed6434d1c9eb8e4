//! A publisher: a registry with the lab's release, made by the operator's commands.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::host::Ran;
use crate::lab;

pub struct Registry {
    dir: tempfile::TempDir,
}

impl Registry {
    /// A registry in a directory.
    pub fn in_directory() -> Self {
        let registry = Self::new();
        let files = registry.files();
        registry.publish(files.to_str().unwrap(), &[]);
        registry
    }

    /// A registry at `url`; `variables` say how to get there.
    pub fn at(url: &str, variables: &[(&str, &str)]) -> Self {
        let registry = Self::new();
        registry.publish(url, variables);
        registry
    }

    fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        let dir = builder.prefix("plfm-e2e-").tempdir_in("/tmp").unwrap();
        Self { dir }
    }

    fn publish(&self, url: &str, variables: &[(&str, &str)]) {
        let keys = self.dir.path().join("keys");
        let run = |command: &mut Command| {
            let command = command.envs(variables.iter().copied()).stdin(Stdio::null());
            Ran::from(command.output().unwrap()).ok()
        };
        let mut init = Command::new(lab::program("plfm"));
        init.args(["registry", "init", "--registry", url, "--keys"])
            .arg(&keys)
            .arg("--root-keys")
            .arg(self.dir.path().join("root-keys"))
            .arg("--keyring")
            .arg(lab::keyring());
        run(&mut init);
        let mut publish = Command::new(lab::program("plfm"));
        publish
            .args(["release", "publish"])
            .arg(lab::release())
            .args(["--to", url, "--keys"])
            .arg(&keys);
        run(&mut publish);
    }

    /// Its files, if it is in a directory.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("registry")
    }

    /// What hosts trust it by.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("keys/root.json")
    }
}
