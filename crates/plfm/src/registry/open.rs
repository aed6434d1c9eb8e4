//! Which registry, what is trusted of it, and what its refusals mean to scripts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use plfm_registry::store::StoreError;
use plfm_registry::{RegistryError, Repository, Store};

use super::keys::ROOT_FILE;
use crate::output::{Category, CliError};

/// Which registry.
#[derive(Debug, Args)]
pub struct Address {
    /// The registry: a directory, file://, s3://bucket/prefix, gs:// or az://
    #[arg(
        long = "registry",
        visible_alias = "to",
        value_name = "URL",
        env = "PLFM_REGISTRY"
    )]
    url: String,
    /// Root metadata that is trusted [default: root.json beside the keys]
    #[arg(long, value_name = "FILE", env = "PLFM_REGISTRY_ROOT")]
    root: Option<PathBuf>,
}

impl Address {
    /// The address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The files, unread.
    pub fn store(&self) -> Result<Store, CliError> {
        Store::open(&self.url, std::env::vars()).map_err(|error| refusal(error.into()))
    }

    /// The registry, verified from the trusted root.
    pub async fn open(&self, keys: Option<&Path>) -> Result<Repository, CliError> {
        let beside = keys.map(|keys| keys.join(ROOT_FILE));
        let path = self.root.clone().or(beside).ok_or_else(|| {
            CliError::new(Category::Usage, "root_missing", "no trusted root was given").with_hint(Some(
                "pass --root with the root.json that `plfm registry init` made".to_owned(),
            ))
        })?;
        let root = fs::read(&path).map_err(|error| {
            let category = match error.kind() {
                io::ErrorKind::NotFound => Category::NotFound,
                _ => Category::Failure,
            };
            let message = format!("cannot read the trusted root {}: {error}", path.display());
            CliError::new(category, "root_unreadable", message).with_hint(Some(
                "pass --root with the root.json that `plfm registry init` made".to_owned(),
            ))
        })?;
        Repository::open(self.store()?, &root).await.map_err(refusal)
    }
}

/// A registry's refusal for people and scripts.
pub fn refusal(error: RegistryError) -> CliError {
    let category = match error.code() {
        "registry_conflict" | "registry_exists" | "registry_name_taken" | "release_yanked" | "key_exists" => {
            Category::Conflict
        }
        "registry_missing" | "registry_file_missing" | "no_such_key" | "no_such_release" => {
            Category::NotFound
        }
        "registry_key_missing" | "registry_wrong_keys" => Category::Auth,
        "registry_url_invalid" | "registry_bad_threshold" => Category::Usage,
        "registry_store_failed" => store_category(&error),
        _ => Category::Failure,
    };
    CliError::from_error(category, error.code(), &error).with_hint(error.hint())
}

fn store_category(error: &RegistryError) -> Category {
    use object_store::Error::{PermissionDenied, Unauthenticated};
    match error {
        RegistryError::Store(StoreError::Access { source, .. }) => match **source {
            PermissionDenied { .. } | Unauthenticated { .. } => Category::Auth,
            _ => Category::Transient,
        },
        _ => Category::Transient,
    }
}

/// Runs `work` to its end.
pub fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::from_error(Category::Internal, "runtime_failed", &error))?;
    runtime.block_on(work)
}
