//! A registry of a task's own: made by `plfm registry init`, filled by `plfm release publish`, served by `plfm registry serve`.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use crate::lab::Lab;
use crate::shell::{read, run_quietly};

/// The registry; its server is ended when it is dropped.
pub struct Registry {
    dir: tempfile::TempDir,
    server: Child,
    url: String,
}

impl Registry {
    /// Makes it with the lab's release key and both of the lab's releases, and serves it on a free port of loopback.
    pub fn serve(lab: &Lab) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("plfm-registry-").tempdir()?;
        let (keys, files) = (dir.path().join("keys"), dir.path().join("files"));
        let in_registry = |command: &mut Command| {
            command.arg("--registry").arg(&files).arg("--keys").arg(&keys);
        };
        let mut init = lab.plfm();
        init.args(["registry", "init", "--root-keys"])
            .arg(dir.path().join("root-keys"))
            .arg("--keyring")
            .arg(lab.keyring());
        in_registry(&mut init);
        run_quietly(&mut init)?;
        for release in ["release", "release-b"] {
            let mut publish = lab.plfm();
            publish.args(["release", "publish"]).arg(lab.dir.join(release));
            in_registry(&mut publish);
            run_quietly(&mut publish)?;
        }
        let mut server = lab
            .plfm()
            .args(["registry", "serve", "--listen", "127.0.0.1:0"])
            .arg(&files)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the registry's server")?;
        let mut lines = BufReader::new(
            server
                .stdout
                .take()
                .context("the server has no standard output")?,
        );
        let url = read_url(&mut lines);
        let registry = Self {
            dir,
            server,
            url: url?,
        };
        Ok(registry)
    }

    /// Where it is served.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The root metadata that hosts trust it by.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("keys/root.json")
    }

    /// What is in it, for people.
    pub fn list(&self, lab: &Lab) -> anyhow::Result<String> {
        let mut list = lab.plfm();
        list.args(["registry", "list", "--registry"])
            .arg(self.dir.path().join("files"));
        read(list.arg("--root").arg(self.root()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The address that the server says when it listens.
fn read_url(lines: &mut impl std::io::BufRead) -> anyhow::Result<String> {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            anyhow::bail!("the registry's server ended: {seen}");
        }
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
            return Ok(url.trim_end_matches([',', '.']).to_owned());
        }
        seen.push_str(&line);
    }
}
