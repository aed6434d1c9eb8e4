//! Why a layer is not taken.

use std::io;

use crate::tar::TarError;
use crate::tree::{LinkRefusal, PathRefusal};
use crate::verify::StreamRefusal;

/// Bytes of a path that an error shows.
const SHOWN_BYTES_MAX: usize = 200;

/// Why one entry of a layer is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryRefusal {
    #[error("the path {0}")]
    Path(#[from] PathRefusal),
    #[error("the hard link's target {0}")]
    LinkPath(PathRefusal),
    #[error("the hard link's target {0}")]
    Link(#[from] LinkRefusal),
    #[error("the root is not a directory")]
    Root,
    #[error("the whiteout names nothing that can be taken away")]
    Whiteout,
    #[error("the symbolic link's target is empty, too long or has a NUL in it")]
    Target,
    #[error("the device's numbers are not ones that Linux has")]
    Device,
    #[error("its extended attributes are too large")]
    Xattr,
    #[error("the file has more than {0} bytes")]
    FileSize(u64),
    #[error("the image has more than {0} entries")]
    Entries(u64),
    #[error("the image has more than {0} bytes of paths and attributes")]
    Metadata(u64),
    #[error("its data cannot be read")]
    Tar(#[source] TarError),
    #[error("its data cannot be kept")]
    Spool(#[source] io::Error),
}

/// Why a layer could not be applied. Layers are counted from 1, from the lowest.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It is not what the image says that it is, or it unpacks to more than its size can mean.
    #[error("layer {layer} is refused: {reason}")]
    Stream {
        /// Which layer.
        layer: usize,
        /// Why.
        reason: String,
        /// Whether it is about size, not about what the bytes are.
        is_limit: bool,
    },
    /// With it the image unpacks to more than is taken.
    #[error("layer {layer} is refused: the image unpacks to more than {max} bytes")]
    Unpacked {
        /// Which layer.
        layer: usize,
        /// The limit.
        max: u64,
    },
    /// It is no tar archive of a kind that layers are.
    #[error("layer {layer} is not an archive that can be applied")]
    Archive {
        /// Which layer.
        layer: usize,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// One of its entries is not taken.
    #[error("layer {layer}, entry \"{path}\": {reason}")]
    Entry {
        /// Which layer.
        layer: usize,
        /// The entry's path, escaped and shortened.
        path: String,
        /// Why.
        reason: String,
        /// Whether it is a named limit.
        is_limit: bool,
    },
    /// It could not be read, or its contents not be kept.
    #[error("layer {layer} cannot be read or kept")]
    Io {
        /// Which layer.
        layer: usize,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

impl LayerError {
    /// A stable word for what happened.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unpacked { .. }
            | Self::Stream { is_limit: true, .. }
            | Self::Entry { is_limit: true, .. } => "image_limit",
            Self::Stream { .. } => "image_digest_mismatch",
            Self::Archive { .. } => "layer_malformed",
            Self::Entry { .. } => "layer_refused",
            Self::Io { .. } => "layer_io",
        }
    }

    /// Whether it may have come of stored bytes that are not the right ones.
    pub(super) fn may_be_damage(&self) -> bool {
        match self {
            Self::Stream { is_limit, .. } | Self::Entry { is_limit, .. } => !is_limit,
            Self::Archive { .. } => true,
            Self::Unpacked { .. } | Self::Io { .. } => false,
        }
    }

    /// From an error of the layer's stream.
    pub(super) fn from_read(index: usize, source: io::Error) -> Self {
        let layer = index.saturating_add(1);
        if let Some(refusal) = StreamRefusal::within(&source) {
            if let StreamRefusal::Unpacked { max } = refusal {
                return Self::Unpacked { layer, max: *max };
            }
            return Self::Stream {
                layer,
                reason: refusal.to_string(),
                is_limit: matches!(refusal, StreamRefusal::Ratio { .. }),
            };
        }
        match source.kind() {
            // What the decompressors say of bytes that are not theirs.
            io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::Other => Self::Archive {
                layer,
                source: source.into(),
            },
            _ => Self::Io { layer, source },
        }
    }

    pub(super) fn from_tar(index: usize, error: TarError) -> Self {
        match error {
            TarError::Read(source) => Self::from_read(index, source),
            other => Self::Archive {
                layer: index.saturating_add(1),
                source: other.into(),
            },
        }
    }

    pub(super) fn from_entry(index: usize, path: &[u8], refusal: EntryRefusal) -> Self {
        match refusal {
            EntryRefusal::Tar(error) => Self::from_tar(index, error),
            EntryRefusal::Spool(source) => Self::Io {
                layer: index.saturating_add(1),
                source,
            },
            other => Self::Entry {
                layer: index.saturating_add(1),
                path: shown(path),
                reason: other.to_string(),
                is_limit: other.is_limit(),
            },
        }
    }
}

impl EntryRefusal {
    fn is_limit(&self) -> bool {
        match self {
            Self::Path(refusal) | Self::LinkPath(refusal) => match refusal {
                PathRefusal::Long | PathRefusal::LongName | PathRefusal::Deep | PathRefusal::Hops => true,
                PathRefusal::Absolute
                | PathRefusal::Parent
                | PathRefusal::Nul
                | PathRefusal::NotDirectory => false,
            },
            Self::Xattr | Self::FileSize(_) | Self::Entries(_) | Self::Metadata(_) => true,
            Self::Link(_) | Self::Root | Self::Whiteout | Self::Target | Self::Device => false,
            Self::Tar(_) | Self::Spool(_) => false,
        }
    }
}

fn shown(path: &[u8]) -> String {
    let part = path.get(..SHOWN_BYTES_MAX).unwrap_or(path);
    let end = if part.len() < path.len() { "…" } else { "" };
    format!("{}{end}", part.escape_ascii())
}
