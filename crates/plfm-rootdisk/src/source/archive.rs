//! A tar archive on disk, as a table of where its members are.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::limits::ARCHIVE_MEMBERS_MAX;
use crate::source::{Extent, open_regular};
use crate::tar::{EntryKind, TarError, TarReader};

/// Links that are followed from one member to another: `docker save` makes one.
const LINKS_MAX: usize = 4;

/// Why a file is not taken as an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It is compressed as a whole.
    #[error("it is compressed; unpack it first")]
    Compressed,
    /// It is no tar archive.
    #[error("it is not a tar archive that can be read")]
    Tar(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It has more members than an image can need.
    #[error("it has more than {ARCHIVE_MEMBERS_MAX} members")]
    Members,
}

enum Member {
    Data { offset: u64, size_bytes: u64 },
    Link(String),
}

/// The members of an archive.
pub(crate) struct Archive {
    path: PathBuf,
    members: HashMap<String, Member>,
}

impl Archive {
    /// Reads the headers of an archive, not its data.
    pub(crate) fn open(path: &Path) -> Result<Self, ArchiveError> {
        let mut file = open_regular(path)?;
        let mut magic = [0; 4];
        let count = file.read(&mut magic)?;
        let magic = magic.get(..count).unwrap_or_default();
        if magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd] {
            return Err(ArchiveError::Compressed);
        }
        file.seek(SeekFrom::Start(0))?;
        let mut reader = TarReader::new(io::BufReader::with_capacity(64 << 10, file));
        let mut members = HashMap::new();
        while let Some(entry) = next_entry(&mut reader)? {
            let member = match entry.kind {
                EntryKind::File => Member::Data {
                    offset: reader.position(),
                    size_bytes: entry.size_bytes,
                },
                EntryKind::Symlink => Member::Link(beside(&text(&entry.path), &text(&entry.link))),
                EntryKind::HardLink => Member::Link(normal(&text(&entry.link))),
                _ => continue,
            };
            if members.len() >= ARCHIVE_MEMBERS_MAX {
                return Err(ArchiveError::Members);
            }
            members.insert(normal(&text(&entry.path)), member);
            reader.seek_past_data().map_err(tar_error)?;
        }
        Ok(Self {
            path: path.to_owned(),
            members,
        })
    }

    /// The data of a member, through links.
    pub(crate) fn find(&self, name: &str) -> Option<Extent> {
        let mut name = normal(name);
        for _ in 0..=LINKS_MAX {
            match self.members.get(&name)? {
                Member::Data { offset, size_bytes } => {
                    return Some(Extent {
                        file: self.path.clone(),
                        offset: *offset,
                        size_bytes: *size_bytes,
                    });
                }
                Member::Link(target) => name = target.clone(),
            }
        }
        None
    }
}

fn next_entry<R: Read>(reader: &mut TarReader<R>) -> Result<Option<crate::tar::Entry>, ArchiveError> {
    reader.next_entry().map_err(tar_error)
}

fn tar_error(error: TarError) -> ArchiveError {
    match error {
        TarError::Read(source) => ArchiveError::Io(source),
        other => ArchiveError::Tar(other.into()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A member's name without `.`, `..` and empty parts; above the archive's root there is nothing.
fn normal(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn beside(name: &str, target: &str) -> String {
    match name.rsplit_once('/') {
        Some((directory, _)) if !target.starts_with('/') => normal(&format!("{directory}/{target}")),
        _ => normal(target),
    }
}
