//! A new token's file: there, and this user's alone, before the token is.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::key_file::PRIVATE_MODE;
use crate::output::{Category, CliError};

/// A file that waits for its secret. Dropped without one, it goes away again: a token is never asked for that could
/// not be kept.
pub struct SecretFile {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl SecretFile {
    /// Makes the file, which must not be there.
    pub fn create(path: &Path) -> Result<Self, CliError> {
        let made = File::options()
            .write(true)
            .create_new(true)
            .mode(PRIVATE_MODE)
            .open(path);
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CliError::new(
                Category::Conflict,
                "file_exists",
                format!("{} exists; nothing is overwritten", path.display()),
            )
            .with_hint(Some("pass another --out".to_owned())),
            _ => unwritable(path, &error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            is_kept: false,
        })
    }

    /// Puts the secret in it, on a line of its own.
    pub fn keep(mut self, secret: &str) -> Result<PathBuf, CliError> {
        writeln!(self.file, "{secret}")
            .and_then(|()| self.file.sync_all())
            .map_err(|error| unwritable(&self.path, &error))?;
        self.is_kept = true;
        Ok(self.path.clone())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    let message = format!("cannot write {}: {error}", path.display());
    CliError::new(Category::Failure, "file_unwritable", message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_its_owners_alone_and_overwrites_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        SecretFile::create(&path).unwrap().keep("s").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "s\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SecretFile::create(&path).err().unwrap().code, "file_exists");
        assert_eq!(fs::read_to_string(&path).unwrap(), "s\n");
    }

    #[test]
    fn without_a_secret_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        drop(SecretFile::create(&path).unwrap());
        assert!(!path.exists());
    }
}
