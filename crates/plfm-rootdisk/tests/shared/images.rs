//! Images in an OCI layout or a docker archive, made of layers.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::tarball::{file, tar};

pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packed {
    Plain,
    Gzip,
    Zstd,
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub fn pack(layer: &[u8], how: Packed) -> (Vec<u8>, &'static str) {
    match how {
        Packed::Plain => (layer.to_vec(), LAYER),
        Packed::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(layer).unwrap();
            (
                encoder.finish().unwrap(),
                "application/vnd.oci.image.layer.v1.tar+gzip",
            )
        }
        Packed::Zstd => (
            zstd::encode_all(layer, 1).unwrap(),
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
    }
}

/// A layout in a directory, to which images are added.
pub struct Layout {
    pub path: PathBuf,
    pub entries: Vec<Value>,
}

impl Layout {
    pub fn new(path: &Path) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self {
            path: path.to_owned(),
            entries: Vec::new(),
        }
    }

    pub fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = sha256(bytes);
        fs::write(self.path.join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// An image of these layers; gives its manifest's descriptor.
    pub fn image(&self, layers: &[Vec<u8>], packed: Packed, config: Value) -> Value {
        let diff_ids: Vec<String> = layers
            .iter()
            .map(|layer| format!("sha256:{}", sha256(layer)))
            .collect();
        let config = config_json(config, &diff_ids);
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let (bytes, media_type) = pack(layer, packed);
                self.blob(&bytes, media_type)
            })
            .collect();
        self.manifest(&config, layers)
    }

    pub fn manifest(&self, config: &Value, layers: Vec<Value>) -> Value {
        let config = self.blob(&serde_json::to_vec(config).unwrap(), CONFIG);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.blob(&serde_json::to_vec(&manifest).unwrap(), MANIFEST)
    }

    pub fn add(&mut self, mut descriptor: Value, name: Option<&str>) {
        if let Some(name) = name {
            descriptor["annotations"] = json!({ NAME: name });
        }
        self.entries.push(descriptor);
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.path.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    }
}

pub fn config_json(config: Value, diff_ids: &[String]) -> Value {
    json!({"architecture": "amd64", "os": "linux", "config": config,
           "rootfs": {"type": "layers", "diff_ids": diff_ids},
           "history": diff_ids.iter().map(|_| json!({"created_by": "test"})).collect::<Vec<_>>()})
}

/// A layout with one image named `t`.
pub fn layout(path: &Path, layers: &[Vec<u8>], packed: Packed) -> Layout {
    let mut layout = Layout::new(path);
    let image = layout.image(layers, packed, json!({"Cmd": ["/bin/sh"]}));
    layout.add(image, Some("t"));
    layout
}

/// What `docker save` writes of one image.
pub fn docker_archive(layers: &[Vec<u8>], name: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", sha256(layer)))
        .collect();
    let config = serde_json::to_vec(&config_json(json!({"Cmd": ["/bin/sh"]}), &diff_ids)).unwrap();
    let config_name = format!("{}.json", sha256(&config));
    let names: Vec<String> = (0..layers.len())
        .map(|number| format!("{number}/layer.tar"))
        .collect();
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": names}]);
    let mut entries = vec![
        file("manifest.json", serde_json::to_vec(&manifest).unwrap()),
        file(&config_name, &config),
    ];
    entries.extend(names.iter().zip(layers).map(|(name, layer)| file(name, layer)));
    tar(&entries)
}
