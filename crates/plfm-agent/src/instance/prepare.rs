//! What is made before the VM starts, and taken away after it: directories, scratch disk, network.

use std::path::{Path, PathBuf};

use plfm_vmm::Jail;
use tokio::process::Command;

use super::Setting;
use super::plan::BootPlan;
use crate::network::{self, InstanceNetwork, NetworkError, instance_address};

/// Why an instance could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The disk refused.
    #[error("cannot make {}", path.display())]
    Disk {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// mke2fs is missing or failed.
    #[error("cannot make the scratch disk {}: {detail}", path.display())]
    Scratch {
        /// The disk.
        path: PathBuf,
        /// What mke2fs says.
        detail: String,
    },
    /// No network.
    #[error("cannot make the instance's network")]
    Network(#[from] NetworkError),
    /// No jail.
    #[error("cannot have a jail for the instance")]
    Jail(#[from] plfm_vmm::JailError),
}

/// What was made. Dropped, the network and the socket directory are gone.
pub struct Prepared {
    pub scratch: PathBuf,
    pub network: Option<InstanceNetwork>,
    /// Where the VMM will be locked up, if it will be.
    pub jail: Option<Jail>,
    run_dir: PathBuf,
    dir: PathBuf,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // The console is worth keeping, the sockets and the scratch disk are not.
        let _ = std::fs::copy(self.run_dir.join("console.log"), self.dir.join("console.log"));
        let _ = std::fs::remove_dir_all(&self.run_dir);
        // The VM took its jail away itself, unless it never started: then the sockets are still in there.
        if let Some(jail) = &self.jail
            && let Err(error) = jail.remove()
        {
            tracing::warn!(code = error.code(), "{}", crate::problem::chain(&error));
        }
        let _ = std::fs::remove_file(self.dir.join("scratch.img"));
    }
}

/// Makes all that the VM needs.
pub async fn prepare(plan: &BootPlan, setting: &Setting) -> Result<Prepared, PrepareError> {
    for dir in [&setting.dir, &setting.run_dir] {
        make_private_dir(dir).await?;
    }
    let scratch = match &plan.request.scratch_disk {
        Some(disk) => PathBuf::from(disk),
        None => setting.dir.join("scratch.img"),
    };
    let mut prepared = Prepared {
        scratch,
        network: None,
        jail: setting.backend.jail(&setting.run_dir)?,
        run_dir: setting.run_dir.clone(),
        dir: setting.dir.clone(),
    };
    if !plan.brought().scratch_disk {
        make_scratch_disk(&prepared.scratch, plan.request.scratch_mib).await?;
    }
    if setting.no_network.is_none() {
        let address = instance_address(setting.prefix, plan.address_suffix);
        let name = format!("plfm{}", super::short_name(&plan.id));
        prepared.network = Some(network::create(&name, setting.prefix, address).await?);
    }
    Ok(prepared)
}

async fn make_private_dir(dir: &Path) -> Result<(), PrepareError> {
    let made = tokio::fs::DirBuilder::new().mode(0o700).create(dir).await;
    made.map_err(|source| PrepareError::Disk {
        path: dir.to_owned(),
        source,
    })
}

/// A sparse ext4 without a journal: it does not outlive the VM, so a crash has nothing to recover.
async fn make_scratch_disk(path: &Path, size_mib: u32) -> Result<(), PrepareError> {
    let failed = |detail: String| PrepareError::Scratch {
        path: path.to_owned(),
        detail,
    };
    // Where Debian has it, and a user's PATH may not.
    let search = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("mke2fs")
        .env("PATH", search)
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-m",
            "0",
            "-O",
            "^has_journal",
            "-E",
            "nodiscard,lazy_itable_init=1",
        ])
        .arg(path)
        .arg(format!("{size_mib}M"))
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            failed(format!(
                "cannot run mke2fs: {error}; install the Debian package e2fsprogs"
            ))
        })?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(
            String::from_utf8_lossy(&output.stderr)
                .trim()
                .chars()
                .take(400)
                .collect(),
        ))
    }
}
