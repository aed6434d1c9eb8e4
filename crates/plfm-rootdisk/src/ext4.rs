//! An ext4 file system of a tree, by `mke2fs -d`: from a directory that is made of the finished tree. It takes root,
//! for other users' files and for devices, and its bytes differ from build to build.

mod unpack;

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::spool::SpoolReader;
use crate::tree::Tree;

const BLOCK_BYTES: u64 = 4096;
const INODE_BYTES: u64 = 256;
/// Room for what grows with nothing: superblock, descriptors, the root's own blocks.
const SLACK_BYTES: u64 = 16 << 20;
/// What mke2fs may say that an error shows.
const SAID_BYTES_MAX: usize = 500;

/// Why a tree cannot become an ext4 file system.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// Only root can make other users' files and devices.
    #[error("an ext4 disk can be made by root alone; erofs disks by everyone")]
    Root,
    /// A program of e2fsprogs is missing or failed.
    #[error("{program} failed: {said}")]
    Tool {
        /// Which.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// The directory cannot be made.
    #[error("the tree cannot be unpacked")]
    Unpack(#[from] io::Error),
}

impl Ext4Error {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Root => "needs_root",
            Self::Tool { .. } | Self::Unpack(_) => "disk_failed",
        }
    }
}

/// Whether this process can make one: to be asked before the work of unpacking.
pub(crate) fn check_rights() -> Result<(), Ext4Error> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Ext4Error::Root)
    }
}

/// Writes the file system of a tree into an empty file; gives its size.
pub(crate) fn write(
    tree: &Tree,
    contents: &SpoolReader,
    uuid: [u8; 16],
    work: &Path,
    disk: &Path,
) -> Result<u64, Ext4Error> {
    let directory = tempfile::Builder::new().prefix("tree").tempdir_in(work)?;
    let root = directory.path().join("root");
    let usage = unpack::unpack(tree, contents, &root)?;
    let data_bytes = usage.data_blocks.saturating_mul(BLOCK_BYTES);
    let inodes = usage.inodes.saturating_add(64);
    let size_bytes = data_bytes
        .saturating_add(data_bytes / 16)
        .saturating_add(inodes.saturating_mul(INODE_BYTES))
        .saturating_add(SLACK_BYTES)
        .next_multiple_of(BLOCK_BYTES);
    make(&root, disk, uuid, inodes, size_bytes)?;
    finish_root(tree, disk)?;
    Ok(std::fs::metadata(disk)?.len())
}

fn make(root: &Path, disk: &Path, uuid: [u8; 16], inodes: u64, size_bytes: u64) -> Result<(), Ext4Error> {
    let hex = uuid
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let mut command = Command::new("mke2fs");
    command.args([
        "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-E",
    ]);
    // Nobody writes to it: no journal, nothing left to be initialized, the hash of names not random.
    command.arg(format!("lazy_itable_init=0,hash_seed={}", dashed(&hex)));
    command.args([
        "-O",
        "^has_journal",
        "-N",
        &inodes.to_string(),
        "-U",
        &dashed(&hex),
        "-d",
    ]);
    command.arg(root).arg(disk).arg(format!("{}k", size_bytes / 1024));
    // Debian's mke2fs keeps the times of the file system itself to this moment.
    run("mke2fs", command.env("E2FSPROGS_FAKE_TIME", "1"))
}

/// The root as the image has it: mke2fs gives it an owner and a time of its own, and a directory in it.
fn finish_root(tree: &Tree, disk: &Path) -> Result<(), Ext4Error> {
    let meta = &tree.root.meta;
    let mut script = String::new();
    if !tree.root.children.contains_key(&b"lost+found"[..]) {
        script.push_str("rmdir lost+found\n");
    }
    let fields = [
        ("mode", format!("0{:o}", 0o040_000 | u32::from(meta.mode))),
        ("uid", meta.uid.to_string()),
        ("gid", meta.gid.to_string()),
        ("mtime", format!("@{}", meta.mtime.seconds)),
    ];
    fields
        .iter()
        .for_each(|(field, value)| script.push_str(&format!("set_inode_field / {field} {value}\n")));
    let mut commands = tempfile::NamedTempFile::new_in(disk.parent().unwrap_or(Path::new(".")))?;
    io::Write::write_all(&mut commands, script.as_bytes())?;
    run(
        "debugfs",
        Command::new("debugfs")
            .arg("-w")
            .arg("-f")
            .arg(commands.path())
            .arg(disk),
    )
}

fn dashed(hex: &str) -> String {
    let cuts = [0, 8, 12, 16, 20, 32];
    let parts = cuts
        .iter()
        .zip(cuts.iter().skip(1))
        .filter_map(|(from, to)| hex.get(*from..*to));
    parts.collect::<Vec<_>>().join("-")
}

fn run(program: &'static str, command: &mut Command) -> Result<(), Ext4Error> {
    let said = |text: &[u8]| {
        String::from_utf8_lossy(text.get(..SAID_BYTES_MAX).unwrap_or(text))
            .trim()
            .to_owned()
    };
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Ext4Error::Tool {
            program,
            said: said(&output.stderr),
        }),
        Err(error) => Err(Ext4Error::Tool {
            program,
            said: error.to_string(),
        }),
    }
}
