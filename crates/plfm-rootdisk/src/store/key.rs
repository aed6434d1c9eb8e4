//! What a disk is kept under.

use std::fmt;
use std::str::FromStr;

use plfm_release::Sha256Digest;

use crate::disk::DiskFormat;

/// What decides a disk's bytes, and the name of its directory: `<sha256>-<format>-<builder>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageKey {
    /// The image.
    pub image: Sha256Digest,
    /// The file system.
    pub format: DiskFormat,
    /// The version of the code that made it.
    pub builder: u32,
}

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.image, self.format, self.builder)
    }
}

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a root disk")]
pub struct ImageKeyError;

impl FromStr for ImageKey {
    type Err = ImageKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or(ImageKeyError);
        let image = part()?.parse().map_err(|_| ImageKeyError)?;
        let format = part()?.parse().map_err(|_| ImageKeyError)?;
        let builder = part()?.parse().map_err(|_| ImageKeyError)?;
        let key = Self {
            image,
            format,
            builder,
        };
        if key.to_string() == text {
            Ok(key)
        } else {
            Err(ImageKeyError)
        }
    }
}
