//! Images as a test makes them: a directory in the OCI image layout, and docker's registry on loopback.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use plfm_release::Sha256Digest;
use serde_json::{Value, json};

use crate::host::tool;
use crate::lab;

/// A layout in a directory.
pub struct Layout {
    pub path: PathBuf,
}

impl Layout {
    /// A layout with one image, `t`, of the lab's userland.
    pub fn of_userland(path: PathBuf, config: Value) -> Self {
        Self::with_platform(path, "amd64", config)
    }

    pub fn with_platform(path: PathBuf, arch: &str, config: Value) -> Self {
        let layout = Self { path };
        std::fs::create_dir_all(layout.path.join("blobs/sha256")).unwrap();
        std::fs::write(
            layout.path.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let layer = layout.userland();
        let digest = layer["digest"].clone();
        let config = json!({
            "architecture": arch, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        });
        let config = layout.blob(
            config.to_string().as_bytes(),
            "application/vnd.oci.image.config.v1+json",
        );
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]});
        let mut manifest = layout.blob(manifest.to_string().as_bytes(), manifest_type);
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "t"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        std::fs::write(layout.path.join("index.json"), index.to_string()).unwrap();
        layout
    }

    /// The lab's userland as a layer, root's whoever made it.
    fn userland(&self) -> Value {
        let file = self.path.join("layer.tar");
        let options = [
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mtime=@0",
        ];
        let userland = lab::dir().join("rootfs");
        let places = [
            "-C",
            userland.to_str().unwrap(),
            "-cf",
            file.to_str().unwrap(),
            ".",
        ];
        tool("tar", &[&options[..], &places[..]].concat()).ok();
        let bytes = std::fs::read(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        self.blob(&bytes, "application/vnd.oci.image.layer.v1.tar")
    }

    fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = Sha256Digest::of(bytes).to_string();
        std::fs::write(self.path.join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// The image as the command line names it.
    pub fn name(&self) -> String {
        format!("oci:{}:t", self.path.display())
    }

    /// The digest of its manifest.
    pub fn digest(&self) -> String {
        let index = std::fs::read_to_string(self.path.join("index.json")).unwrap();
        let index: Value = serde_json::from_str(&index).unwrap();
        index["manifests"][0]["digest"].as_str().unwrap().to_owned()
    }

    /// Changes a byte of its one layer.
    pub fn damage(&self) {
        let manifest = self.read_blob(&self.digest());
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        let path = self.blob_path(layer);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    fn read_blob(&self, digest: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.blob_path(digest)).unwrap()).unwrap()
    }

    fn blob_path(&self, digest: &str) -> PathBuf {
        self.path
            .join("blobs/sha256")
            .join(digest.trim_start_matches("sha256:"))
    }
}

/// Copies an image as `skopeo copy` does; into a registry with the digest that it has.
pub fn copy(from: &str, to: &str) {
    let options = ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"];
    let same = ["--preserve-digests"];
    let same = if to.starts_with("docker://") {
        &same[..]
    } else {
        &[]
    };
    tool("skopeo", &[&options[..], same, &[from, to]].concat()).ok();
}

/// Docker's registry on loopback; gone with the value.
pub struct Registry {
    child: Child,
    pub host: String,
}

impl Registry {
    pub fn start(directory: &Path) -> Self {
        let (config, storage) = (directory.join("registry.yml"), directory.join("registry"));
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(lab::docker_registry().expect("docker-registry"))
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let host = lines.find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split(['"', ' ']).next().map(str::to_owned)
        });
        // It ends when nobody reads its log.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            host: host.expect("docker-registry does not listen"),
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
