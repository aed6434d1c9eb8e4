//! `plfm release build`: a kernel, an initramfs and a signed manifest, from source.

mod inputs;
mod progress;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, ValueEnum};
use plfm_build::{
    Epoch, Event, Fault, KERNEL_SOURCE_DEFAULT, KernelOrigin, Overwrite, Phase, Progress, Written, assemble,
    fault_in,
};
use plfm_release::{BuildId, Channel, GuestInitVersion, SigningKey};
use serde::Serialize;

use self::progress::BuildProgress;
use super::verify::ArtifactReport;
use crate::output::{Category, CliError, Output, render_fields, render_size};

/// Where Debian's package `busybox-static` puts it.
const BUSYBOX_DEFAULT: &str = "/usr/bin/busybox";
/// Where Debian's package `ca-certificates` puts it.
const CA_BUNDLE_DEFAULT: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Arguments of `plfm release build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Private key that signs the release
    #[arg(long, value_name = "FILE", env = "PLFM_SIGNING_KEY")]
    key: PathBuf,
    /// Directory to write [default: target/releases/<RELEASE> in the checkout]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace another release that is in the way
    #[arg(long)]
    force: bool,

    /// Channel that the release is for
    #[arg(long, default_value = "staging", help_heading = "What it is")]
    channel: Channel,
    /// What the release is built for
    #[arg(long, default_value = "standard", help_heading = "What it is")]
    variant: VariantArg,
    /// Build id in the names [default: the epoch's day and the letter a]
    #[arg(long, value_name = "ID", help_heading = "What it is")]
    build_id: Option<BuildId>,
    /// Build id of a kernel that an earlier release has
    #[arg(long, value_name = "ID", help_heading = "What it is")]
    kernel_build_id: Option<BuildId>,
    /// Time that the build pretends it is, in seconds since 1970 [default: the time of the checkout's commit]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SOURCE_DATE_EPOCH",
        help_heading = "What it is"
    )]
    epoch: Option<Epoch>,
    /// Oldest agent that may run the release
    #[arg(
        long,
        default_value = "1.0.0",
        value_name = "VERSION",
        help_heading = "What it is"
    )]
    min_agent_version: semver::Version,
    /// Protocols that the release supports, separated by commas
    #[arg(
        long,
        default_value = "1",
        value_name = "N",
        value_delimiter = ',',
        help_heading = "What it is"
    )]
    supported_protocols: Vec<u32>,

    /// Tarball of the kernel's source
    #[arg(long, default_value = KERNEL_SOURCE_DEFAULT, value_name = "FILE", help_heading = "Kernel")]
    kernel_source: PathBuf,
    /// Configuration fragment [default: the project's own]
    #[arg(long, value_name = "FILE", help_heading = "Kernel")]
    kernel_config: Option<PathBuf>,
    /// Directory of built kernels [default: plfm/kernels in the user's cache]
    #[arg(long, value_name = "DIR", env = "PLFM_KERNEL_CACHE", help_heading = "Kernel")]
    kernel_cache: Option<PathBuf>,
    /// How many compilers run at once [default: one for each core]
    #[arg(long, value_name = "N", help_heading = "Kernel")]
    jobs: Option<std::num::NonZeroUsize>,

    /// Checkout of this project to compile guest init from [default: the one around the current directory]
    #[arg(long, value_name = "DIR", help_heading = "Initramfs")]
    workspace: Option<PathBuf>,
    /// A guest init that is compiled already
    #[arg(
        long,
        value_name = "FILE",
        requires = "guest_init_version",
        help_heading = "Initramfs"
    )]
    guest_init: Option<PathBuf>,
    /// Build a guest init that fails on purpose, to see it taken back; only for --channel lab
    #[arg(
        long,
        value_name = "FAULT",
        conflicts_with = "guest_init",
        value_parser = PossibleValuesParser::new(Fault::ALL.map(Fault::as_str)).try_map(|name| name.parse::<Fault>()),
        help_heading = "Initramfs"
    )]
    fault: Option<Fault>,
    /// Version of that guest init
    #[arg(
        long,
        value_name = "VERSION",
        requires = "guest_init",
        help_heading = "Initramfs"
    )]
    guest_init_version: Option<GuestInitVersion>,
    /// Protocol that guest init speaks
    #[arg(long, value_name = "N", default_value_t = plfm_guest_protocol::PROTOCOL, help_heading = "Initramfs")]
    guest_init_protocol: u32,
    /// Add a static busybox, for a rescue shell
    #[arg(
        long, value_name = "FILE", num_args = 0..=1, require_equals = true,
        default_missing_value = BUSYBOX_DEFAULT, help_heading = "Initramfs"
    )]
    with_busybox: Option<PathBuf>,
    /// Add a bundle of CA certificates
    #[arg(
        long, value_name = "FILE", num_args = 0..=1, require_equals = true,
        default_missing_value = CA_BUNDLE_DEFAULT, help_heading = "Initramfs"
    )]
    with_ca_bundle: Option<PathBuf>,
    /// 0 (stored: the cheapest to unpack at each boot) to 9
    #[arg(
        long, value_name = "LEVEL", default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=9), help_heading = "Initramfs"
    )]
    gzip_level: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VariantArg {
    Standard,
    Debug,
}

/// What `plfm release build` prints.
#[derive(Debug, Serialize)]
struct BuildReport {
    release_id: String,
    dir: PathBuf,
    written: &'static str,
    channel: String,
    variant: String,
    key_id: String,
    epoch: u32,
    git_sha: Option<String>,
    dirty: bool,
    /// How guest init fails, if it was built to.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    artifacts: Vec<ArtifactReport>,
    initramfs_unpacked_bytes: usize,
    kernel: KernelReport,
}

#[derive(Debug, Serialize)]
struct KernelReport {
    origin: &'static str,
    inputs_sha256: String,
}

impl BuildArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let key = load_key(&self.key, out)?;
        let mut progress = BuildProgress::new();
        let (inputs, workspace) = self.gather(&mut progress)?;
        progress.event(Event::Started(Phase::PackInitramfs));
        let release = assemble(&inputs, &key).map_err(|error| {
            CliError::from_error(Category::Failure, error.code(), &error).with_hint(error.hint())
        })?;
        progress.event(Event::Finished(Phase::PackInitramfs));
        let manifest = release.manifest();
        let dir = self.directory(workspace.as_deref(), &manifest.release_id().to_string())?;
        progress.event(Event::Started(Phase::WriteRelease));
        let overwrite = if self.force {
            Overwrite::Replace
        } else {
            Overwrite::Refuse
        };
        let written = release.write(&dir, overwrite).map_err(write_error)?;
        progress.event(Event::Finished(Phase::WriteRelease));
        drop(progress);
        let report = BuildReport {
            release_id: manifest.release_id().to_string(),
            dir,
            written: match written {
                Written::New => "new",
                Written::Unchanged => "unchanged",
                Written::Replaced => "replaced",
            },
            channel: manifest.channel.to_string(),
            variant: manifest.variant.to_string(),
            key_id: key.public_key().id().to_string(),
            epoch: inputs.epoch.seconds(),
            git_sha: manifest.source.git_sha.clone(),
            dirty: manifest.source.dirty,
            fault: fault_in(&inputs.guest_init.program),
            artifacts: ArtifactReport::of(manifest),
            initramfs_unpacked_bytes: release.unpacked_bytes(),
            kernel: KernelReport {
                origin: match inputs.kernel.origin {
                    KernelOrigin::Cached => "cached",
                    KernelOrigin::Compiled => "compiled",
                },
                inputs_sha256: inputs.kernel.record.digest().to_string(),
            },
        };
        out.result(&report, render)
    }

    fn directory(&self, workspace: Option<&Path>, release_id: &str) -> Result<PathBuf, CliError> {
        match (&self.out, workspace) {
            (Some(dir), _) => Ok(dir.clone()),
            (None, Some(workspace)) => Ok(workspace.join("target").join("releases").join(release_id)),
            (None, None) => {
                let message = "there is no checkout to write the release into";
                Err(CliError::new(Category::Usage, "no_output_directory", message)
                    .with_hint(Some("pass a directory with --out".to_owned())))
            }
        }
    }
}

fn write_error(error: plfm_build::WriteError) -> CliError {
    use plfm_build::WriteError::{Io, NotARelease, OtherRelease};
    let category = match &error {
        NotARelease { .. } | OtherRelease { .. } => Category::Conflict,
        Io { .. } => Category::Failure,
    };
    CliError::from_error(category, error.code(), &error).with_hint(error.hint())
}

/// Reads the signing key, and warns if others can read it too.
fn load_key(path: &Path, out: &Output) -> Result<SigningKey, CliError> {
    let read = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let category = if missing {
            Category::NotFound
        } else {
            Category::Failure
        };
        let message = format!("cannot read the signing key {}: {error}", path.display());
        let hint = "make one with `plfm release keys generate --out DIR --name NAME`".to_owned();
        CliError::new(category, "signing_key_unreadable", message).with_hint(missing.then_some(hint))
    };
    let pem = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(read)?);
    let mode = fs::metadata(path).map_err(read)?.permissions().mode();
    if mode & 0o077 != 0 {
        out.note(&format!(
            "warning: others can read the signing key {0}; run: chmod 600 {0}",
            path.display()
        ));
    }
    SigningKey::from_pem(&pem).map_err(|error| {
        let message = format!("cannot sign with {}: {error}", path.display());
        CliError::new(Category::Failure, "signing_key_malformed", message)
    })
}

fn render(report: &BuildReport) -> String {
    let mut fields: Vec<(&str, String)> = report.artifacts.iter().map(ArtifactReport::field).collect();
    let unpacked = render_size(u64::try_from(report.initramfs_unpacked_bytes).unwrap_or(u64::MAX));
    let source = match (&report.git_sha, report.dirty) {
        (Some(sha), true) => format!("{sha} with changes"),
        (Some(sha), false) => sha.clone(),
        (None, _) => "not from a repository".to_owned(),
    };
    let fault = |fault: &String| ("fault", format!("guest init is built to fail: {fault}"));
    fields.extend(report.fault.as_ref().map(fault));
    fields.extend([
        ("unpacked", format!("{unpacked} at each boot")),
        ("signed", format!("key {}", report.key_id)),
        ("source", source),
        (
            "directory",
            format!("{} ({})", report.dir.display(), report.written),
        ),
    ]);
    let title = format!(
        "built {} ({}, {}; kernel {})\n",
        report.release_id, report.channel, report.variant, report.kernel.origin
    );
    title + &render_fields(&fields)
}
