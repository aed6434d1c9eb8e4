//! What an image may ask of this host: every bound has a name and a reason.

/// Bytes of an index or a manifest: registries themselves take 4 MiB.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Bytes of an image's configuration: it carries the build history and labels, some of them long.
pub const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// How deep indexes may lie in indexes: a multi-platform image in a layout takes two.
pub const INDEX_DEPTH_MAX: u32 = 4;
/// Layers of an image: other engines stop at 127; squashed and generated images stay far below this.
pub const LAYERS_MAX: usize = 512;
/// Bytes of one PAX header or one GNU long name: room for an extended attribute of 64 KiB and a long path.
pub const EXTENDED_HEADER_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a path in the image and of a symbolic link's target (`PATH_MAX`, less the NUL).
pub const PATH_BYTES_MAX: usize = 4095;
/// Bytes of one name (`NAME_MAX`; erofs has the same bound).
pub const NAME_BYTES_MAX: usize = 255;
/// Directories above a file: what walks the tree recurses this far at most.
pub const DEPTH_MAX: usize = 128;
/// Symbolic links followed on the way to an entry's directory, as in the kernel (`ELOOP`).
pub const SYMLINK_HOPS_MAX: usize = 40;
/// Bytes of one extended attribute's value (`XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES_MAX: usize = 64 << 10;
/// Bytes of all extended attributes of one file (`XATTR_LIST_MAX` for the names; the values share it here).
pub const XATTRS_BYTES_MAX: usize = 128 << 10;
/// Segments of data in one sparse file.
pub const SPARSE_SEGMENTS_MAX: usize = 1 << 16;
/// Apparent size of one file, holes included: a sparse `lastlog` of a large user number has 292 GB.
pub const FILE_BYTES_MAX: u64 = 1 << 40;
/// What a layer may unpack to before its ratio is looked at: small layers of zeros are no danger.
pub const RATIO_FREE_BYTES: u64 = 256 << 20;
/// Memory that a zstd frame may ask of its reader, as a power of two (128 MiB, zstd's own default for decoders).
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Members of a docker archive: layers, configurations and the links of its older format.
pub const ARCHIVE_MEMBERS_MAX: usize = 10_000;

/// The bounds that an operator may want to move; [`Limits::default`] suits a host with some tens of gigabytes free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all layers as they are stored and sent.
    pub compressed_bytes_max: u64,
    /// Bytes of all layers unpacked, holes of sparse files not counted.
    pub unpacked_bytes_max: u64,
    /// Entries of all layers, whiteouts and replaced ones counted: each takes memory while the disk is built.
    pub entries_max: u64,
    /// Bytes of all paths, link targets and extended attributes, which are in memory too.
    pub metadata_bytes_max: u64,
    /// Unpacked bytes for each stored byte of a layer, once it is past [`RATIO_FREE_BYTES`]. Deflate ends at 1,032;
    /// what people ship is below 20.
    pub ratio_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            compressed_bytes_max: 32 << 30,
            unpacked_bytes_max: 64 << 30,
            entries_max: 2_000_000,
            metadata_bytes_max: 512 << 20,
            ratio_max: 200,
        }
    }
}
