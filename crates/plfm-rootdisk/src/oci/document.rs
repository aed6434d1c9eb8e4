//! Indexes and manifests.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::limits::{CONFIG_BYTES_MAX, LAYERS_MAX, Limits, MANIFEST_BYTES_MAX};
use crate::oci::{Descriptor, DocumentError, Platform, parse_digest};
use crate::verify::Packing;

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIG_TYPES: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
const LAYER_TYPES: [(&str, Packing); 8] = [
    ("application/vnd.oci.image.layer.v1.tar", Packing::Plain),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Packing::Told),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Packing::Told),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        Packing::Told,
    ),
    ("application/vnd.docker.image.rootfs.diff.tar", Packing::Plain),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", Packing::Told),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", Packing::Told),
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        Packing::Told,
    ),
];
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Names that an error lists.
const NAMES_SHOWN_MAX: usize = 10;

/// What media types a registry is asked for.
pub(crate) fn accepted_types() -> impl Iterator<Item = &'static str> {
    INDEX_TYPES.into_iter().chain(MANIFEST_TYPES)
}

/// An index or a manifest.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// A list of images, one for each platform or, in a layout, one for each name.
#[derive(Debug)]
pub(crate) struct Index {
    entries: Vec<IndexEntry>,
}

#[derive(Debug)]
struct IndexEntry {
    descriptor: Descriptor,
    platform: Option<Platform>,
    names: Vec<String>,
}

/// One image for one platform.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<(Descriptor, Packing)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentJson {
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<DescriptorJson>>,
    #[serde(default)]
    config: Option<DescriptorJson>,
    #[serde(default)]
    layers: Option<Vec<DescriptorJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorJson {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl DescriptorJson {
    fn descriptor(&self) -> Result<Descriptor, DocumentError> {
        let digest =
            parse_digest(&self.digest).ok_or_else(|| DocumentError::Digest(shorten(&self.digest)))?;
        Ok(Descriptor {
            media_type: shorten(&self.media_type),
            digest,
            size_bytes: self.size,
        })
    }

    fn entry(&self) -> Result<IndexEntry, DocumentError> {
        let annotations = self.annotations.iter().flatten();
        let names = annotations.filter(|(key, _)| [REF_NAME, CONTAINERD_NAME].contains(&key.as_str()));
        Ok(IndexEntry {
            descriptor: self.descriptor()?,
            platform: self.platform.clone(),
            names: names.map(|(_, name)| shorten(name)).collect(),
        })
    }
}

/// Reads an index or a manifest; `media_type` is what the descriptor or the registry called it.
pub(crate) fn parse_document(bytes: &[u8], media_type: &str) -> Result<Document, DocumentError> {
    let what = "manifest";
    let json: DocumentJson =
        serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { what, source })?;
    if json.schema_version == 1 {
        return Err(DocumentError::Schema1);
    }
    let media_type = json.media_type.as_deref().unwrap_or(media_type);
    let is_index = INDEX_TYPES.contains(&media_type) || (media_type.is_empty() && json.manifests.is_some());
    let is_manifest =
        MANIFEST_TYPES.contains(&media_type) || (media_type.is_empty() && json.layers.is_some());
    // A document that can be read as both has two meanings under one digest (CVE-2021-41190).
    match (json.manifests, json.config, json.layers) {
        (Some(entries), None, None) if is_index => {
            let entries = entries
                .iter()
                .map(DescriptorJson::entry)
                .collect::<Result<_, _>>()?;
            Ok(Document::Index(Index { entries }))
        }
        (None, Some(config), Some(layers)) if is_manifest => {
            manifest(&config, &layers).map(Document::Manifest)
        }
        _ if is_index || is_manifest => Err(DocumentError::Ambiguous),
        _ => Err(DocumentError::MediaType(shorten(media_type))),
    }
}

fn manifest(config: &DescriptorJson, layers: &[DescriptorJson]) -> Result<Manifest, DocumentError> {
    let config = config.descriptor()?;
    if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
        return Err(DocumentError::MediaType(config.media_type));
    }
    if config.size_bytes > CONFIG_BYTES_MAX {
        return Err(DocumentError::Limit {
            what: "configuration's size",
            max: CONFIG_BYTES_MAX,
        });
    }
    if layers.len() > LAYERS_MAX {
        return Err(DocumentError::Limit {
            what: "number of layers",
            max: LAYERS_MAX as u64,
        });
    }
    let layers = layers.iter().map(layer).collect::<Result<_, _>>()?;
    Ok(Manifest { config, layers })
}

fn layer(json: &DescriptorJson) -> Result<(Descriptor, Packing), DocumentError> {
    let descriptor = json.descriptor()?;
    let known = LAYER_TYPES
        .iter()
        .find(|(media_type, _)| *media_type == descriptor.media_type);
    match known {
        Some((_, packing)) => Ok((descriptor, *packing)),
        None => Err(DocumentError::MediaType(descriptor.media_type)),
    }
}

impl Manifest {
    /// Refuses an image whose layers together are larger than is taken, before one of them is fetched.
    pub(crate) fn check_size(&self, limits: &Limits) -> Result<(), DocumentError> {
        let sum = self
            .layers
            .iter()
            .fold(0u64, |sum, (layer, _)| sum.saturating_add(layer.size_bytes));
        let max = limits.compressed_bytes_max;
        if sum > max {
            Err(DocumentError::Limit {
                what: "size of the layers",
                max,
            })
        } else {
            Ok(())
        }
    }
}

impl Index {
    /// The image with this name; with no name the only one there is.
    pub(crate) fn named(self, name: Option<&str>) -> Result<Self, DocumentError> {
        let names: Vec<String> = self
            .entries
            .iter()
            .flat_map(|entry| entry.names.iter().cloned())
            .collect();
        match name {
            Some(name) => {
                let is_named = |entry: &IndexEntry| entry.names.iter().any(|candidate| candidate == name);
                let entries: Vec<_> = self.entries.into_iter().filter(is_named).collect();
                if entries.is_empty() {
                    return Err(DocumentError::NoSuchImage {
                        name: shorten(name),
                        names: list(names),
                    });
                }
                Ok(Self { entries })
            }
            // Several entries without names are one image for several platforms.
            None if names.is_empty() || self.entries.len() == 1 => Ok(self),
            None => Err(DocumentError::Several { names: list(names) }),
        }
    }

    /// The entry that an instance can run: the first for linux/amd64, else the only one that names no platform.
    pub(crate) fn choose(&self) -> Result<&Descriptor, DocumentError> {
        let is_ours = |entry: &&IndexEntry| entry.platform.as_ref().is_some_and(Platform::is_ours);
        if let Some(entry) = self.entries.iter().find(is_ours) {
            return check_document_size(&entry.descriptor);
        }
        let mut unnamed = self.entries.iter().filter(|entry| entry.platform.is_none());
        match (unnamed.next(), unnamed.next()) {
            (Some(entry), None) => check_document_size(&entry.descriptor),
            _ => {
                let platforms = self.entries.iter().filter_map(|entry| entry.platform.as_ref());
                Err(DocumentError::Platform {
                    found: list(platforms.map(Platform::to_string).collect()),
                })
            }
        }
    }
}

fn check_document_size(descriptor: &Descriptor) -> Result<&Descriptor, DocumentError> {
    if descriptor.size_bytes > MANIFEST_BYTES_MAX {
        return Err(DocumentError::Limit {
            what: "manifest's size",
            max: MANIFEST_BYTES_MAX,
        });
    }
    Ok(descriptor)
}

fn list(mut names: Vec<String>) -> String {
    names.sort();
    names.dedup();
    let rest = names.len().saturating_sub(NAMES_SHOWN_MAX);
    names.truncate(NAMES_SHOWN_MAX);
    match (names.is_empty(), rest) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => names.join(", "),
        (false, rest) => format!("{} and {rest} more", names.join(", ")),
    }
}

/// A text of the image, short enough for an error.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(120).collect()
}
