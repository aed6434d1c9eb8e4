//! Writing a release into a directory, all of it or nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use plfm_release::SignedManifest;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{MANIFEST_FILE, Release};

const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// What to do with another release that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Leave it, and fail.
    Refuse,
    /// Replace it.
    Replace,
}

/// What writing a release did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is new.
    New,
    /// It was there, byte for byte.
    Unchanged,
    /// It replaced another one.
    Replaced,
}

/// Why a release could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something that is no release is in the way; it is never removed.
    #[error("{} exists and is not a release", path.display())]
    NotARelease {
        /// The directory.
        path: PathBuf,
    },
    /// Another release is in the way.
    #[error("{} holds another release{}", path.display(), render_id(.release))]
    OtherRelease {
        /// The directory.
        path: PathBuf,
        /// Its id, as far as it can be read.
        release: Option<String>,
    },
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn render_id(release: &Option<String>) -> String {
    release
        .as_ref()
        .map(|id| format!(": {id}, with other bytes"))
        .unwrap_or_default()
}

impl WriteError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotARelease { .. } => "output_not_a_release",
            Self::OtherRelease { .. } => "output_other_release",
            Self::Io { .. } => "output_unwritable",
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotARelease { .. } => Some("pass another directory with --out".to_owned()),
            Self::OtherRelease { .. } => {
                Some("pass another --build-id or --out, or --force to replace it".to_owned())
            }
            Self::Io { .. } => None,
        }
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> WriteError + use<'a> {
    move |source| WriteError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

impl Release {
    /// Writes the release as the directory `dir`: beside it first, then renamed, so that `dir` is never half of a
    /// release. A release that is there with the same bytes is left alone.
    ///
    /// # Errors
    /// [`WriteError`]. `dir` is then as it was.
    pub fn write(&self, dir: &Path, overwrite: Overwrite) -> Result<Written, WriteError> {
        let present = Present::at(dir, self.files())?;
        match present {
            Present::Same => return Ok(Written::Unchanged),
            Present::Other { release } if overwrite == Overwrite::Refuse => {
                return Err(WriteError::OtherRelease {
                    path: dir.to_owned(),
                    release,
                });
            }
            Present::Nothing | Present::Other { .. } => {}
        }
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
        let staged = tempfile::Builder::new()
            .prefix(".plfm-release-")
            .tempdir_in(parent)
            .map_err(failed("create a directory in", parent))?;
        self.write_files(staged.path())?;
        let written = match present {
            Present::Other { .. } => {
                // What was there is now in the temporary directory, which goes when it is dropped.
                renameat_with(CWD, staged.path(), CWD, dir, RenameFlags::EXCHANGE)
                    .map_err(|error| failed("replace", dir)(error.into()))?;
                Written::Replaced
            }
            Present::Nothing | Present::Same => {
                fs::rename(staged.path(), dir).map_err(failed("create", dir))?;
                Written::New
            }
        };
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(failed("sync", parent))?;
        Ok(written)
    }

    fn write_files(&self, dir: &Path) -> Result<(), WriteError> {
        for (name, content) in self.files() {
            let path = dir.join(name);
            let written = File::create_new(&path).and_then(|mut file| {
                file.set_permissions(Permissions::from_mode(FILE_MODE))?;
                file.write_all(content)?;
                file.sync_all()
            });
            written.map_err(failed("write", &path))?;
        }
        let synced = File::open(dir).and_then(|opened| {
            opened.set_permissions(Permissions::from_mode(DIRECTORY_MODE))?;
            opened.sync_all()
        });
        synced.map_err(failed("sync", dir))
    }
}

/// What is at the place that a release is to be written to.
enum Present {
    /// Nothing, or an empty directory.
    Nothing,
    /// The very release.
    Same,
    /// Another one.
    Other { release: Option<String> },
}

impl Present {
    fn at(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<Self, WriteError> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nothing),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(WriteError::NotARelease { path: dir.to_owned() });
            }
            Err(error) => return Err(failed("read", dir)(error)),
        };
        let names: Result<Vec<_>, _> = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect();
        let names = names.map_err(failed("read", dir))?;
        if names.is_empty() {
            return Ok(Self::Nothing);
        }
        if !names.iter().any(|name| name == MANIFEST_FILE) {
            return Err(WriteError::NotARelease { path: dir.to_owned() });
        }
        let same =
            |(name, content): (&String, &Vec<u8>)| fs::read(dir.join(name)).is_ok_and(|c| c == *content);
        if names.len() == files.len() && files.iter().all(same) {
            return Ok(Self::Same);
        }
        let manifest = fs::read(dir.join(MANIFEST_FILE)).ok();
        let signed = manifest.and_then(|bytes| SignedManifest::parse(&bytes).ok());
        Ok(Self::Other {
            release: signed.map(|signed| signed.untrusted().release_id().to_string()),
        })
    }
}
