//! An image that was found: its documents are read and verified, its layers are known and not looked at yet.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use plfm_release::Sha256Digest;

use crate::defaults::ImageDefaults;
use crate::limits::{CONFIG_BYTES_MAX, INDEX_DEPTH_MAX, LAYERS_MAX, Limits, MANIFEST_BYTES_MAX};
use crate::oci::{Descriptor, Document, DocumentError, ImageConfig, Manifest, parse_document};
use crate::source::{Archive, ArchiveError, BlobDirectory, Extent, SavedImage, open_regular};
use crate::verify::Packing;

/// Why an image could not be found or read.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// One of its documents is not taken.
    #[error("{place} does not hold an image that can be used")]
    Document {
        /// Where.
        place: String,
        /// What is wrong.
        #[source]
        source: DocumentError,
    },
    /// The archive is not one.
    #[error("{path} is not an archive with an image")]
    Archive {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ArchiveError,
    },
    /// A blob or a member that the image needs is not there.
    #[error("{place} has no {name}")]
    Missing {
        /// Where.
        place: String,
        /// What.
        name: String,
    },
    /// Something could not be read.
    #[error("cannot read {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ResolveError {
    /// A stable word for what is wrong.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Document { source, .. } => source.code(),
            Self::Archive { .. } => "image_malformed",
            Self::Missing { .. } => "image_incomplete",
            Self::Io { .. } => "image_io",
        }
    }
}

/// One layer: where its bytes are and what they must be.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub file: PathBuf,
    pub offset: u64,
    pub size_bytes: u64,
    /// Of the bytes as they are stored; a docker archive does not say.
    pub digest: Option<Sha256Digest>,
    pub diff_id: Sha256Digest,
    pub packing: Packing,
}

/// An image for linux/amd64, with verified manifest and configuration.
#[derive(Debug, Clone)]
pub struct Image {
    digest: Sha256Digest,
    config: Vec<u8>,
    defaults: ImageDefaults,
    pub(crate) layers: Vec<Layer>,
}

/// The parts that a manifest leads to.
struct Parts {
    digest: Sha256Digest,
    manifest: Manifest,
    config: Vec<u8>,
}

impl Image {
    /// The digest of its manifest; of its configuration, if it comes from a docker archive, which has no manifest.
    /// Either stands for every byte of the image.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// How its program is meant to run.
    pub fn defaults(&self) -> &ImageDefaults {
        &self.defaults
    }

    /// Its configuration, byte for byte.
    pub(crate) fn config(&self) -> &[u8] {
        &self.config
    }

    /// Bytes of all its layers as they are stored.
    pub fn compressed_bytes(&self) -> u64 {
        self.layers
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.size_bytes))
    }

    /// Finds an image in a directory of the OCI image layout.
    ///
    /// # Errors
    /// [`ResolveError`]: it is not there, not for linux/amd64, or not what its digests say.
    pub fn from_layout(directory: &Path, name: Option<&str>, limits: &Limits) -> Result<Self, ResolveError> {
        let place = directory.display().to_string();
        let blobs = BlobDirectory::new(directory.join("blobs"));
        let index = directory.join("index.json");
        let io = |source| ResolveError::Io {
            path: index.clone(),
            source,
        };
        let bytes = read_up_to(open_regular(&index).map_err(io)?, MANIFEST_BYTES_MAX).map_err(io)?;
        Self::from_index(&place, &bytes, name, limits, &|descriptor| {
            blobs
                .find(descriptor.digest)
                .map_err(|(path, source)| ResolveError::Io { path, source })
        })
    }

    /// Finds an image in a tar archive: of `docker save` or of a directory in the OCI image layout.
    ///
    /// # Errors
    /// As [`Image::from_layout`].
    pub fn from_archive(path: &Path, name: Option<&str>, limits: &Limits) -> Result<Self, ResolveError> {
        let place = path.display().to_string();
        let archive = Archive::open(path).map_err(|source| ResolveError::Archive {
            path: path.to_owned(),
            source,
        })?;
        let document = |source| ResolveError::Document {
            place: place.clone(),
            source,
        };
        if let Some(extent) = archive.find("manifest.json") {
            let bytes = read_extent(&extent, MANIFEST_BYTES_MAX)?;
            let saved = SavedImage::choose(&bytes, name).map_err(document)?;
            return Self::from_saved(&place, &archive, saved);
        }
        let index = archive
            .find("index.json")
            .ok_or_else(|| missing(&place, "manifest.json or index.json"))?;
        let bytes = read_extent(&index, MANIFEST_BYTES_MAX)?;
        Self::from_index(&place, &bytes, name, limits, &|descriptor| {
            Ok(archive.find(&format!("blobs/sha256/{}", descriptor.digest)))
        })
    }

    /// Finds an image whose blobs were fetched, by its manifest's digest.
    pub(crate) fn from_blobs(
        blobs: &BlobDirectory,
        manifest: &Descriptor,
        limits: &Limits,
    ) -> Result<Self, ResolveError> {
        let find = |descriptor: &Descriptor| {
            blobs
                .find(descriptor.digest)
                .map_err(|(path, source)| ResolveError::Io { path, source })
        };
        let place = blobs.path().display().to_string();
        Self::from_parts(&place, read_parts(&place, manifest, &find)?, limits, &find)
    }

    fn from_index(
        place: &str,
        bytes: &[u8],
        name: Option<&str>,
        limits: &Limits,
        find: Find<'_>,
    ) -> Result<Self, ResolveError> {
        let document = |source| ResolveError::Document {
            place: place.to_owned(),
            source,
        };
        let Document::Index(index) = parse_document(bytes, "").map_err(document)? else {
            return Err(document(DocumentError::Ambiguous));
        };
        let index = index.named(name).map_err(document)?;
        let parts = read_parts(place, index.choose().map_err(document)?, find)?;
        Self::from_parts(place, parts, limits, find)
    }

    fn from_parts(place: &str, parts: Parts, limits: &Limits, find: Find<'_>) -> Result<Self, ResolveError> {
        let document = |source| ResolveError::Document {
            place: place.to_owned(),
            source,
        };
        parts.manifest.check_size(limits).map_err(document)?;
        let config = ImageConfig::parse(&parts.config).map_err(document)?;
        let stored = parts.manifest.layers.len();
        check_layers(stored, config.diff_ids.len()).map_err(document)?;
        let mut layers = Vec::with_capacity(stored);
        for ((descriptor, packing), diff_id) in parts.manifest.layers.into_iter().zip(config.diff_ids) {
            let extent = find(&descriptor)?.ok_or_else(|| missing(place, &descriptor.digest.to_string()))?;
            if extent.size_bytes != descriptor.size_bytes {
                return Err(document(DocumentError::Size {
                    digest: descriptor.digest,
                    expected: descriptor.size_bytes,
                }));
            }
            layers.push(layer(extent, Some(descriptor.digest), diff_id, packing));
        }
        Ok(Self {
            digest: parts.digest,
            config: parts.config,
            defaults: config.defaults,
            layers,
        })
    }

    fn from_saved(place: &str, archive: &Archive, saved: SavedImage) -> Result<Self, ResolveError> {
        let document = |source| ResolveError::Document {
            place: place.to_owned(),
            source,
        };
        let find = |name: &str| archive.find(name).ok_or_else(|| missing(place, name));
        let config_bytes = read_extent(&find(&saved.config)?, CONFIG_BYTES_MAX)?;
        let digest = Sha256Digest::of(&config_bytes);
        match saved.config_digest() {
            Some(expected) if expected != digest => {
                return Err(document(DocumentError::Mismatch {
                    expected,
                    found: digest,
                }));
            }
            _ => {}
        }
        let config = ImageConfig::parse(&config_bytes).map_err(document)?;
        check_layers(saved.layers.len(), config.diff_ids.len()).map_err(document)?;
        let mut layers = Vec::with_capacity(saved.layers.len());
        for (name, diff_id) in saved.layers.iter().zip(config.diff_ids) {
            layers.push(layer(find(name)?, None, diff_id, Packing::Told));
        }
        Ok(Self {
            digest,
            config: config_bytes,
            defaults: config.defaults,
            layers,
        })
    }
}

/// Finds a blob of the image.
type Find<'a> = &'a dyn Fn(&Descriptor) -> Result<Option<Extent>, ResolveError>;

fn layer(extent: Extent, digest: Option<Sha256Digest>, diff_id: Sha256Digest, packing: Packing) -> Layer {
    Layer {
        file: extent.file,
        offset: extent.offset,
        size_bytes: extent.size_bytes,
        digest,
        diff_id,
        packing,
    }
}

fn missing(place: &str, name: &str) -> ResolveError {
    ResolveError::Missing {
        place: place.to_owned(),
        name: name.chars().take(120).collect(),
    }
}

fn check_layers(layers: usize, diff_ids: usize) -> Result<(), DocumentError> {
    if layers > LAYERS_MAX {
        return Err(DocumentError::Limit {
            what: "number of layers",
            max: LAYERS_MAX as u64,
        });
    }
    if layers == diff_ids {
        Ok(())
    } else {
        Err(DocumentError::Layers { layers, diff_ids })
    }
}

/// From a descriptor to a manifest, through indexes, and its configuration.
fn read_parts(place: &str, descriptor: &Descriptor, find: Find<'_>) -> Result<Parts, ResolveError> {
    let document = |source| ResolveError::Document {
        place: place.to_owned(),
        source,
    };
    let mut descriptor = descriptor.clone();
    for _ in 0..INDEX_DEPTH_MAX {
        let bytes = read_verified(place, &descriptor, MANIFEST_BYTES_MAX, find)?;
        match parse_document(&bytes, &descriptor.media_type).map_err(document)? {
            Document::Index(index) => descriptor = index.choose().map_err(document)?.clone(),
            Document::Manifest(manifest) => {
                let config = read_verified(place, &manifest.config, CONFIG_BYTES_MAX, find)?;
                return Ok(Parts {
                    digest: descriptor.digest,
                    manifest,
                    config,
                });
            }
        }
    }
    Err(document(DocumentError::Limit {
        what: "depth of indexes",
        max: u64::from(INDEX_DEPTH_MAX),
    }))
}

fn read_verified(
    place: &str,
    descriptor: &Descriptor,
    max: u64,
    find: Find<'_>,
) -> Result<Vec<u8>, ResolveError> {
    let extent = find(descriptor)?.ok_or_else(|| missing(place, &descriptor.digest.to_string()))?;
    let bytes = read_extent(&extent, max)?;
    verify(&bytes, descriptor).map_err(|source| ResolveError::Document {
        place: place.to_owned(),
        source,
    })?;
    Ok(bytes)
}

/// Checks bytes against their descriptor.
pub(crate) fn verify(bytes: &[u8], descriptor: &Descriptor) -> Result<(), DocumentError> {
    let (expected, found) = (descriptor.digest, Sha256Digest::of(bytes));
    if bytes.len() as u64 != descriptor.size_bytes {
        return Err(DocumentError::Size {
            digest: expected,
            expected: descriptor.size_bytes,
        });
    }
    if expected == found {
        Ok(())
    } else {
        Err(DocumentError::Mismatch { expected, found })
    }
}

fn read_extent(extent: &Extent, max: u64) -> Result<Vec<u8>, ResolveError> {
    let io = |source| ResolveError::Io {
        path: extent.file.clone(),
        source,
    };
    let mut file = open_regular(&extent.file).map_err(io)?;
    file.seek(SeekFrom::Start(extent.offset)).map_err(io)?;
    read_up_to(file.take(extent.size_bytes), max).map_err(io)
}

fn read_up_to(reader: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {max} bytes"),
        ));
    }
    Ok(bytes)
}
