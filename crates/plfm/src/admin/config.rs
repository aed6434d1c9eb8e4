//! Contexts in a file: which control planes there are, and as whom to speak to them.
//!
//! ```toml
//! current = "prod"
//!
//! [contexts.prod]
//! url = "https://control.example:8443"
//! ca = "-----BEGIN CERTIFICATE-----…"
//! token = "plfm_op_…"
//! ```
//!
//! Invariant: there are tokens in it, so nobody but its owner can read it; and what is there is a whole file, the old
//! one or the new one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::output::{Category, CliError};

/// Largest file read: hundreds of contexts.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The file's content.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The context that is used unless another one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All of them, by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// A control plane, and as whom to speak to it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Where it is.
    pub url: String,
    /// The certificates that its own may be issued by, PEM; no other is taken.
    pub ca: String,
    /// Who this is.
    pub token: Token,
}

/// A bearer token. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

/// Longest token: several times what the control plane makes.
const TOKEN_BYTES_MAX: usize = 512;

impl Token {
    /// A token from what a file or a line of input holds.
    pub fn parse(text: &str) -> Result<Self, CliError> {
        let text = text.trim();
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX || !is_plain {
            let message = "that is not a token, which is one word such as plfm_op_…";
            return Err(CliError::new(Category::Usage, "token_malformed", message));
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Config {
    /// Reads the file; nothing is in one that is not there.
    ///
    /// # Errors
    /// When others can read it, or it is not what it should be.
    pub fn load(path: &Path) -> Result<Self, CliError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unreadable(path, &error)),
        };
        // Of what was opened, not of what the path leads to by now.
        let mode = file
            .metadata()
            .map_err(|error| unreadable(path, &error))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            let message = format!(
                "{} holds tokens, and others than its owner can read or write it (mode {:04o})",
                path.display(),
                mode & 0o7777
            );
            let hint = format!(
                "chmod 600 {}; and take back the tokens in it if anybody did",
                path.display()
            );
            return Err(CliError::new(Category::Failure, "config_exposed", message).with_hint(Some(hint)));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| unreadable(path, &error))?;
        toml::from_str(&text).map_err(|error| malformed(path, &error, &text))
    }

    /// Puts the file in the place of the old one.
    pub fn store(&self, path: &Path) -> Result<(), CliError> {
        let text = toml::to_string(self)
            .map(Zeroizing::new)
            .map_err(|error| CliError::from_error(Category::Internal, "config_unserializable", &error))?;
        replace(path, text.as_bytes()).map_err(|error| {
            let message = format!("cannot write {}: {error}", path.display());
            CliError::new(Category::Failure, "config_unwritable", message)
        })
    }
}

/// A temporary file is made for its owner alone.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path
        .parent()
        .ok_or_else(|| io::Error::other("it has no directory"))?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(dir)?.sync_all()
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    let message = format!("cannot read {}: {error}", path.display());
    CliError::new(Category::Failure, "config_unreadable", message)
}

/// Where and why, but not the line itself: there may be a token in it.
fn malformed(path: &Path, error: &toml::de::Error, text: &str) -> CliError {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|before| format!(" line {}", before.lines().count().max(1)))
        .unwrap_or_default();
    let message = format!("{}{line} is not what it should be", path.display());
    CliError::new(Category::Failure, "config_malformed", message).with_hint(Some(
        "mend it, or move it away and add the contexts anew".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let context = Context {
            url: "https://c".to_owned(),
            ca: "PEM\n".to_owned(),
            token: Token::parse("plfm_op_x\n").unwrap(),
        };
        Config {
            current: Some("prod".to_owned()),
            contexts: BTreeMap::from([("prod".to_owned(), context)]),
        }
    }

    #[test]
    fn what_is_stored_is_loaded_and_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plfm/config.toml");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        config().store(&path).unwrap();
        config().store(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), config());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        config().store(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Config::load(&path).unwrap_err().code, "config_exposed");
        }
    }

    #[test]
    fn a_malformed_file_is_named_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "current = \"a\"\n\ntoken = plfm_op_secret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = Config::load(&path).unwrap_err();
        assert_eq!(error.code, "config_malformed");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert!(error.message.contains(" line "), "{}", error.message);
    }

    #[test]
    fn a_token_is_one_word_and_has_no_debug() {
        assert_eq!(format!("{:?}", Token::parse(" abc\n").unwrap()), "Token(…)");
        for text in ["", " ", "a b", "a\nb", "ä", &"x".repeat(513)] {
            assert_eq!(Token::parse(text).unwrap_err().code, "token_malformed");
        }
    }
}
