//! From the command line to the inputs of a build: what is not said is found, or asked for.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use plfm_build::{
    BuildInputs, Checkout, Epoch, GuestInit, GuestInitError, GzipLevel, KERNEL_FRAGMENT_DEFAULT,
    KERNEL_NEEDS, KernelError, KernelInputs, Progress, build_guest_init, build_kernel, check_fault,
    find_checkout, find_workspace, kernel_cache_dir, load_guest_init,
};
use plfm_release::{Compatibility, Protocol, Variant};

use super::{BuildArgs, VariantArg};
use crate::output::{Category, CliError};

impl BuildArgs {
    /// Builds kernel and guest init, and reads the rest. With it, the checkout, if there is one.
    pub(super) fn gather(
        &self,
        progress: &mut dyn Progress,
    ) -> Result<(BuildInputs, Option<PathBuf>), CliError> {
        let workspace = self.find_workspace()?;
        let checkout = workspace.as_deref().and_then(find_checkout);
        let epoch = self.find_epoch(checkout.as_ref())?;
        let build_id = match &self.build_id {
            Some(id) => id.clone(),
            None => epoch
                .build_id()
                .ok_or_else(|| usage("no_build_id", "the epoch gives no build id"))?,
        };
        // What is quick to fail comes before what takes minutes.
        if let Some(fault) = self.fault {
            check_fault(fault.as_str(), &self.channel).map_err(|refused| {
                CliError::from_error(Category::Usage, refused.code(), &refused).with_hint(refused.hint())
            })?;
        }
        let busybox = read_optional(self.with_busybox.as_deref(), "busybox", "busybox-static")?;
        let ca_bundle = read_optional(self.with_ca_bundle.as_deref(), "the CA bundle", "ca-certificates")?;
        let kernel_inputs = self.kernel_inputs()?;
        let guest_init = self.find_guest_init(workspace.as_deref(), progress)?;
        let kernel = build_kernel(&kernel_inputs, progress).map_err(kernel_error)?;
        let source_name = kernel_inputs.source.file_name().unwrap_or_default();
        let inputs = BuildInputs {
            channel: self.channel.clone(),
            variant: match self.variant {
                VariantArg::Standard => Variant::Standard,
                VariantArg::Debug => Variant::Debug,
            },
            kernel,
            kernel_source_name: source_name.to_string_lossy().into_owned(),
            kernel_build_id: self.kernel_build_id.clone().unwrap_or_else(|| build_id.clone()),
            guest_init,
            guest_init_protocol: Protocol(self.guest_init_protocol),
            busybox,
            ca_bundle,
            initramfs_build_id: build_id,
            gzip_level: GzipLevel::new(self.gzip_level).unwrap_or(GzipLevel::STORED),
            compatibility: Compatibility {
                min_agent_version: self.min_agent_version.clone(),
                supported_protocols: self.supported_protocols.iter().copied().map(Protocol).collect(),
            },
            epoch,
            // A program that was compiled elsewhere is not known to be from this checkout.
            checkout: checkout.filter(|_| self.guest_init.is_none()),
        };
        Ok((inputs, workspace))
    }

    fn find_workspace(&self) -> Result<Option<PathBuf>, CliError> {
        if let Some(dir) = &self.workspace {
            let absolute = dir
                .canonicalize()
                .map_err(|error| read_error("the checkout", dir, &error, None))?;
            return Ok(Some(absolute));
        }
        Ok(std::env::current_dir().ok().as_deref().and_then(find_workspace))
    }

    fn find_epoch(&self, checkout: Option<&Checkout>) -> Result<Epoch, CliError> {
        self.epoch.or_else(|| checkout?.committed).ok_or_else(|| {
            usage("no_epoch", "there is no commit to take the build's time from").with_hint(Some(
                "pass --epoch SECONDS or set SOURCE_DATE_EPOCH, for example to `date +%s`".to_owned(),
            ))
        })
    }

    fn kernel_inputs(&self) -> Result<KernelInputs, CliError> {
        let fragment = match &self.kernel_config {
            Some(path) => {
                fs::read(path).map_err(|error| read_error("the kernel configuration", path, &error, None))?
            }
            None => KERNEL_FRAGMENT_DEFAULT.as_bytes().to_vec(),
        };
        let found = || kernel_cache_dir(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"));
        let cache = self.kernel_cache.clone().or_else(found).ok_or_else(|| {
            usage(
                "no_kernel_cache",
                "there is no directory to keep built kernels in",
            )
            .with_hint(Some("pass one with --kernel-cache".to_owned()))
        })?;
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(KernelInputs {
            source: self.kernel_source.clone(),
            fragment,
            needs: KERNEL_NEEDS,
            cache,
            jobs: self.jobs.unwrap_or_else(cores),
        })
    }

    fn find_guest_init(
        &self,
        workspace: Option<&Path>,
        progress: &mut dyn Progress,
    ) -> Result<GuestInit, CliError> {
        let found = match (&self.guest_init, &self.guest_init_version, workspace) {
            (Some(path), Some(version), _) => load_guest_init(path, version.clone()),
            (_, _, Some(workspace)) => build_guest_init(workspace, self.fault, progress),
            (_, _, None) => {
                let message = "there is no guest init: this is no checkout of the project";
                let hint = "pass a checkout with --workspace, or a compiled program with --guest-init";
                return Err(usage("no_guest_init", message).with_hint(Some(hint.to_owned())));
            }
        };
        found.map_err(guest_init_error)
    }
}

fn usage(code: &str, message: &str) -> CliError {
    CliError::new(Category::Usage, code, message)
}

fn kernel_error(error: KernelError) -> CliError {
    CliError::from_error(Category::Failure, error.code(), &error).with_hint(error.hint())
}

fn guest_init_error(error: GuestInitError) -> CliError {
    CliError::from_error(Category::Failure, error.code(), &error).with_hint(error.hint())
}

fn read_optional(path: Option<&Path>, what: &str, package: &str) -> Result<Option<Vec<u8>>, CliError> {
    let Some(path) = path else { return Ok(None) };
    fs::read(path)
        .map(Some)
        .map_err(|error| read_error(what, path, &error, Some(package)))
}

fn read_error(what: &str, path: &Path, error: &std::io::Error, package: Option<&str>) -> CliError {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    let (category, code) = if missing {
        (Category::NotFound, "input_missing")
    } else {
        (Category::Failure, "input_unreadable")
    };
    let hint = package
        .filter(|_| missing)
        .map(|package| format!("sudo apt-get install {package}"));
    CliError::new(
        category,
        code,
        format!("cannot read {what} {}: {error}", path.display()),
    )
    .with_hint(hint)
}
