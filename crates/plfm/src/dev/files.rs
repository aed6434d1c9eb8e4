//! What is on disk before anything runs: keys, a registry, releases in it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::output::{Category, CliError};

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Makes the directory, for its owner alone. Its path is made absolute.
    pub fn make(dir: &Path) -> Result<Self, CliError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        let dir = made.and_then(|()| dir.canonicalize()).map_err(|error| {
            let message = format!("cannot make the directory {}: {error}", dir.display());
            CliError::new(Category::Failure, "directory_unusable", message)
        })?;
        Ok(Self { dir })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The registry's root metadata, as it was made.
    pub fn registry_root(&self) -> PathBuf {
        self.path("registry/keys/root.json")
    }

    /// The registry's files, which are served.
    pub fn registry_files(&self) -> PathBuf {
        self.path("registry/files")
    }

    /// The directory of one agent.
    pub fn agent(&self, number: usize) -> PathBuf {
        self.path(&format!("agents/{number}"))
    }

    /// A path as an argument.
    fn argument(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A key that signs releases, and a registry that trusts it or whoever the given keyring trusts; signed anew where they
    /// are there already.
    pub fn make_registry(&self, keyring: Option<&Path>) -> Result<(), CliError> {
        if !self.path("keys").exists() {
            let keys = self.argument("keys");
            crate::run_quietly(&[
                "release",
                "keys",
                "generate",
                "--out",
                &keys,
                "--name",
                "dev",
                "--channel",
                "production",
            ])?;
        }
        let (files, keys) = (self.argument("registry/files"), self.argument("registry/keys"));
        if self.registry_root().exists() && self.registry_files().join("metadata").exists() {
            return crate::run_quietly(&["registry", "refresh", "--registry", &files, "--keys", &keys]);
        }
        let own = self.path("keys/dev.keyring.json");
        let keyring = keyring.unwrap_or(&own).display().to_string();
        let root_keys = self.argument("registry/root-keys");
        crate::run_quietly(&[
            "registry",
            "init",
            "--registry",
            &files,
            "--keys",
            &keys,
            "--root-keys",
            &root_keys,
            "--keyring",
            &keyring,
        ])
    }

    /// Publishes a release; one that is there already is no error.
    pub fn publish(&self, release: &Path) -> Result<(), CliError> {
        let (files, keys) = (self.argument("registry/files"), self.argument("registry/keys"));
        let release = release.display().to_string();
        crate::run_quietly(&[
            "release",
            "publish",
            &release,
            "--registry",
            &files,
            "--keys",
            &keys,
        ])
    }

    /// Writes a file that only its owner reads.
    pub fn write_private(&self, name: &str, text: &str) -> Result<PathBuf, CliError> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path(name);
        let write = || {
            let _ = fs::remove_file(&path);
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(text.as_bytes())
        };
        write().map_err(|error| unusable(&path, &error))?;
        Ok(path)
    }

    /// Reads a file of [`Layout::write_private`].
    pub fn read_private(&self, name: &str) -> Result<String, CliError> {
        let path = self.path(name);
        fs::read_to_string(&path).map_err(|error| unusable(&path, &error))
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> CliError {
    let message = format!("cannot use {}: {error}", path.display());
    CliError::new(Category::Failure, "directory_unusable", message)
}
