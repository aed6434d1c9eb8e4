//! An agent in the test's own process, and small images for it.

use std::path::PathBuf;
use std::process::Command;

use clap::Parser as _;
use plfm_agent::{Settings, Signals};
use plfm_release::Sha256Digest;
use serde_json::{Value, json};

/// A directory to work in, with an agent.
pub struct Host {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    agent: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    signals: Signals,
}

/// A command that ran.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// What is on a terminal after it, ages left out.
    pub fn told(&self, args: &[&str]) -> String {
        format!(
            "$ plfm {}\n{}{}[exit {}]\n\n",
            args.join(" "),
            self.stdout,
            self.stderr,
            self.code
        )
    }
}

impl Host {
    pub fn new() -> Self {
        // Sockets are in it: its path must be short.
        let dir = tempfile::Builder::new()
            .prefix("plfm-i-")
            .tempdir_in("/tmp")
            .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut host = Self {
            dir,
            runtime,
            agent: None,
            signals: Signals::default(),
        };
        let generated = [
            "release",
            "keys",
            "generate",
            "--name",
            "dev",
            "--channel",
            "production",
            "--out",
            "keys",
        ];
        assert_eq!(host.plfm(&generated).code, 0);
        let path = |name: &str| host.path(name).to_str().unwrap().to_owned();
        let (state, run, keyring) = (path("state"), path("run"), path("keys/dev.keyring.json"));
        let options = [
            "plfm-agent",
            "--state-dir",
            &state,
            "--run-dir",
            &run,
            "--keyring",
            &keyring,
            "--no-network",
        ];
        let settings = Settings::try_parse_from(options).unwrap();
        let agent = host
            .runtime
            .spawn(plfm_agent::run(settings, host.signals.clone()));
        host.runtime.block_on(host.signals.ready.cancelled());
        host.agent = Some(agent);
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `plfm` in the directory, against the agent.
    pub fn plfm(&self, args: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_plfm"))
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PLFM_AGENT_SOCKET", self.path("run/agent.sock"))
            .output()
            .unwrap();
        let text = |bytes| self.redact(&String::from_utf8(bytes).unwrap());
        Ran {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The JSON document that `plfm --output json` prints.
    pub fn json(&self, args: &[&str]) -> Value {
        let ran = self.plfm(&[&["--output", "json"], args].concat());
        serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr))
    }

    /// The directory's name differs from run to run, and so do the agent's words for a request.
    fn redact(&self, text: &str) -> String {
        let text = text.replace(self.dir.path().to_str().unwrap(), "/DIR");
        let lines = text.lines().map(|line| match line.starts_with("request: ") {
            true => "request: ID\n".to_owned(),
            false => line.to_owned() + "\n",
        });
        lines.collect()
    }

    /// A layout with one image whose one file says `content`; gives its digest.
    pub fn layout(&self, name: &str, content: &str, config: Value) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        let blob = |bytes: &[u8], media_type: &str| {
            let digest = Sha256Digest::of(bytes).to_string();
            std::fs::write(path.join("blobs/sha256").join(&digest), bytes).unwrap();
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
        };
        let layer = blob(
            &tar("greeting", content.as_bytes()),
            "application/vnd.oci.image.layer.v1.tar",
        );
        let config = json!({"architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
        let config = blob(
            config.to_string().as_bytes(),
            "application/vnd.oci.image.config.v1+json",
        );
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]});
        let manifest = blob(manifest.to_string().as_bytes(), manifest_type);
        let digest = manifest["digest"].as_str().unwrap().to_owned();
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        std::fs::write(path.join("index.json"), index.to_string()).unwrap();
        digest
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.signals.shutdown.cancel();
        if let Some(agent) = self.agent.take() {
            let _ = self.runtime.block_on(agent);
        }
    }
}

/// A tar archive of one file (ustar).
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = [&header[..], content].concat();
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}
