//! From an image to the bytes of its disk.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;

use plfm_release::Sha256Digest;

use crate::erofs::{self, ErofsError};
use crate::ext4::{self, Ext4Error};
use crate::image::Image;
use crate::layers::{Applied, LayerError};
use crate::limits::Limits;
use crate::spool::Spool;

/// What is built: a change of the bytes that come of one image is another number.
pub(crate) const BUILDER_VERSION: u32 = 1;

/// The file system of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum DiskFormat {
    /// Read-only by nature, reproducible.
    #[default]
    Erofs,
    /// For guests without erofs. Made by `mke2fs`: not reproducible, and only as root.
    Ext4,
}

/// A text that is not a disk format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a disk format (erofs, ext4)")]
pub struct DiskFormatError(String);

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
        })
    }
}

impl FromStr for DiskFormat {
    type Err = DiskFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "erofs" => Ok(Self::Erofs),
            "ext4" => Ok(Self::Ext4),
            other => Err(DiskFormatError(other.chars().take(40).collect())),
        }
    }
}

/// What a build is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Wait for another build of the same disk.
    Wait,
    /// Apply a layer.
    Layer {
        /// Which, from 1.
        number: usize,
        /// Of how many.
        count: usize,
    },
    /// Write the disk.
    Write,
}

/// Why a disk could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A layer is not taken.
    #[error("the image cannot be unpacked")]
    Layer(#[from] LayerError),
    /// The erofs disk cannot be made.
    #[error("the erofs disk cannot be made")]
    Erofs(#[from] ErofsError),
    /// The ext4 disk cannot be made.
    #[error("the ext4 disk cannot be made")]
    Ext4(#[from] Ext4Error),
    /// The working directory cannot be used.
    #[error("the working directory cannot be used")]
    Io(#[from] io::Error),
}

impl BuildError {
    /// A stable word for what happened.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Layer(error) => error.code(),
            Self::Erofs(_) | Self::Io(_) => "disk_failed",
            Self::Ext4(error) => error.code(),
        }
    }
}

/// What was built.
pub(crate) struct Built {
    pub size_bytes: u64,
    pub dropped_xattrs: u64,
}

/// Builds the disk of an image into a new, empty file; `work` is a private directory on a disk with room for the
/// unpacked image.
pub(crate) fn build(
    image: &Image,
    format: DiskFormat,
    limits: &Limits,
    work: &Path,
    disk: &Path,
    on_step: &mut dyn FnMut(Step),
) -> Result<Built, BuildError> {
    if format == DiskFormat::Ext4 {
        ext4::check_rights()?;
    }
    let mut applied = Applied::new(limits, Spool::new(work)?);
    for (index, layer) in image.layers.iter().enumerate() {
        on_step(Step::Layer {
            number: index.saturating_add(1),
            count: image.layers.len(),
        });
        applied.apply(index, layer)?;
    }
    on_step(Step::Write);
    let (tree, dropped_xattrs) = (applied.tree, applied.dropped_xattrs);
    let contents = applied.spool.finish()?;
    let file = File::create_new(disk)?;
    let uuid = uuid(image.digest());
    let size_bytes = match format {
        DiskFormat::Erofs => erofs::write(&tree, &contents, uuid, &file)?,
        DiskFormat::Ext4 => ext4::write(&tree, &contents, uuid, work, disk)?,
    };
    Ok(Built {
        size_bytes,
        dropped_xattrs,
    })
}

/// The file system's id: of the image, so that it is the same for the same bytes (version 8 of RFC 9562: our own).
fn uuid(image: Sha256Digest) -> [u8; 16] {
    let digest = Sha256Digest::of(&[&b"plfm root disk\0"[..], image.as_bytes()].concat());
    let mut uuid = [0; 16];
    for (to, from) in uuid.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut uuid;
    *version = (*version & 0x0f) | 0x80;
    *variant = (*variant & 0x3f) | 0x80;
    uuid
}
