//! Private keys in files: made once, for their owner only, never overwritten.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use plfm_release::SigningKey;
use zeroize::Zeroizing;

use crate::output::{Category, CliError};

/// Mode of a private key's file.
pub const PRIVATE_MODE: u32 = 0o600;

/// A key from the operating system's random generator.
pub fn random_key() -> Result<SigningKey, CliError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(|error| {
        CliError::new(
            Category::Failure,
            "no_randomness",
            format!("no random numbers: {error}"),
        )
    })?;
    Ok(SigningKey::from_seed(&seed))
}

/// Writes a private key to a file that was not there.
pub fn store_key(path: &Path, key: &SigningKey) -> Result<(), CliError> {
    let pem = key
        .to_pem()
        .map_err(|error| CliError::from_error(Category::Internal, "key_unprintable", &error))?;
    create(path, PRIVATE_MODE, pem.as_bytes())
}

/// Reads a private key; `None` where there is no file.
pub fn load_key(path: &Path) -> Result<Option<SigningKey>, CliError> {
    let pem = match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let message = format!("cannot read the key {}: {error}", path.display());
            return Err(CliError::new(Category::Failure, "key_unreadable", message));
        }
    };
    SigningKey::from_pem(&pem).map(Some).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        CliError::new(Category::Failure, "key_malformed", message)
    })
}

/// Makes a file that was not there; its mode is there from the beginning.
pub fn create(path: &Path, mode: u32, content: &[u8]) -> Result<(), CliError> {
    let made = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => file_error(path, &error),
    })
}

/// That a key's file is there already.
pub fn exists(path: &Path) -> CliError {
    let message = format!("{} exists; a key is never overwritten", path.display());
    CliError::new(Category::Conflict, "key_exists", message)
        .with_hint(Some("pass another --name or --out".to_owned()))
}

/// That a key's file can't be made.
pub fn file_error(path: &Path, error: &io::Error) -> CliError {
    let message = format!("cannot create {}: {error}", path.display());
    CliError::new(Category::Failure, "key_unwritable", message)
}
