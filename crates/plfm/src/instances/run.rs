//! `plfm run`: boots an instance from the installed release and runs a program in it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::{ArgAction, Args};
use plfm_api::{
    BootOutcome, CreateInstance, Instance, NetworkMode, PullImage, PullPolicy, Resources, Rlimit,
    SCRATCH_MIB_DEFAULT, SecretsOwner, StopInstance, Volume, VolumeMode, Workload,
};
use reqwest::Method;

use super::env::{self, EnvArg};
use super::frames::OutputSplitter;
use super::report::{render_boot, render_exit};
use crate::agent::{AgentClient, Client};
use crate::images::{ImageArg, PullArg, pull_image};
use crate::output::{Category, CliError, Output};

/// Arguments of `plfm run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: the program's own; 128 + n if signal n ended it; 125 if it did not run.",
    group = clap::ArgGroup::new("root").args(["image", "rootdisk"]).required(true)
)]
pub struct RunArgs {
    /// The image: REGISTRY/NAME[:TAG][@DIGEST], oci:DIR[:NAME] or docker-archive:FILE[:NAME]
    #[arg(value_name = "IMAGE")]
    image: Option<ImageArg>,
    /// What to call the instance: 1 to 63 of a-z, 0-9, - and .; a release may be pinned to it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A root disk instead: a file with ext4, erofs or squashfs; it is never written
    #[arg(long, value_name = "FILE")]
    rootdisk: Option<PathBuf>,
    /// Whether the image's registry is asked for it
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = PullArg::Missing, conflicts_with = "rootdisk")]
    pull: PullArg,
    /// The program, instead of the image's entrypoint and its arguments
    #[arg(long, value_name = "PROGRAM", conflicts_with = "rootdisk")]
    entrypoint: Option<String>,
    /// A volume: NAME=IMAGE:MOUNTPOINT, with :ro at the end for read-only
    #[arg(long, value_name = "VOLUME")]
    volume: Vec<VolumeArg>,
    /// A secrets file, which the program finds at /run/secrets/platform.env
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// The secrets file's owner by number, 0:0 by default; without a GID that is 0
    #[arg(long, value_name = "UID[:GID]", requires = "secrets")]
    secrets_owner: Option<OwnerArg>,
    /// The secrets file's mode: 0400, which is the default, or 0440
    #[arg(long, value_name = "MODE", requires = "secrets")]
    secrets_mode: Option<String>,
    /// An environment entry: KEY=VALUE, or KEY alone to pass on this command's own
    #[arg(long, value_name = "KEY[=VALUE]")]
    env: Vec<EnvArg>,
    /// User as in an OCI image: name, uid, name:group or uid:gid
    #[arg(long)]
    user: Option<String>,
    /// A supplementary group, by name or number
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// A resource limit as setrlimit(2) knows it, such as nofile=1024 or nofile=1024:4096 (soft, hard; or unlimited)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<UlimitArg>,
    /// How many processes and threads the program may have at once
    #[arg(long, value_name = "N")]
    pids_limit: Option<u32>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = Resources::default().memory_mib)]
    memory: u32,
    /// Processors
    #[arg(long, value_name = "N", default_value_t = Resources::default().vcpus)]
    vcpus: u8,
    /// Size of the scratch disk in MiB
    #[arg(long, value_name = "MIB", default_value_t = SCRATCH_MIB_DEFAULT)]
    scratch_size: u32,
    /// An ext4 image to use as scratch disk instead of a new one
    #[arg(long, value_name = "IMAGE", conflicts_with = "scratch_size")]
    scratch: Option<PathBuf>,
    /// The release to boot, instead of what the control plane and the host choose
    #[arg(long, value_name = "RELEASE")]
    release: Option<String>,
    /// Fail if the instance can have no network interface
    #[arg(long, conflicts_with = "no_network")]
    network: bool,
    /// No network interface
    #[arg(long)]
    no_network: bool,
    /// What asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// How long it may take to end, in seconds
    #[arg(long, value_name = "SECONDS")]
    stop_grace: Option<u32>,
    /// Return when the program runs, and print the instance's id
    #[arg(long, short, action = ArgAction::SetTrue)]
    detach: bool,
    /// Say nothing of the boot
    #[arg(long, short)]
    quiet: bool,
    /// The program and its arguments; with an image the arguments of its entrypoint, or its own
    #[arg(last = true, required_unless_present = "image", value_name = "PROGRAM")]
    argv: Vec<String>,
}

#[derive(Debug, Clone)]
struct VolumeArg(Volume);

impl FromStr for VolumeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("{text:?} is not NAME=IMAGE:MOUNTPOINT or NAME=IMAGE:MOUNTPOINT:ro");
        let (name, rest) = text.split_once('=').ok_or_else(malformed)?;
        let (rest, mode) = match (rest.strip_suffix(":ro"), rest.strip_suffix(":rw")) {
            (Some(rest), _) => (rest, VolumeMode::Ro),
            (None, Some(rest)) => (rest, VolumeMode::Rw),
            (None, None) => (rest, VolumeMode::Rw),
        };
        let (disk, mountpoint) = rest.rsplit_once(':').ok_or_else(malformed)?;
        if name.is_empty() || disk.is_empty() || !mountpoint.starts_with('/') {
            return Err(malformed());
        }
        Ok(Self(Volume {
            name: name.to_owned(),
            disk: disk.to_owned(),
            mountpoint: mountpoint.to_owned(),
            mode,
        }))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct UlimitArg(Rlimit);

impl FromStr for UlimitArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("{text:?} is not NAME=SOFT or NAME=SOFT:HARD");
        let value = |text: &str| match text {
            "unlimited" => Ok(None),
            number => number.parse().map(Some).map_err(|_| malformed()),
        };
        let (name, limits) = text.split_once('=').ok_or_else(malformed)?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        Ok(Self(Rlimit {
            name: name.to_owned(),
            soft: value(soft)?,
            hard: value(hard)?,
        }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OwnerArg(SecretsOwner);

impl FromStr for OwnerArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text:?} is not a user's or group's number"))
        };
        let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
        Ok(Self(SecretsOwner {
            uid: number(uid)?,
            gid: number(gid)?,
        }))
    }
}

impl RunArgs {
    /// Runs the verb; the exit code is the program's.
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<ExitCode, CliError> {
        let (detach, quiet) = (self.detach, self.quiet || out.json);
        let mut request = self.request()?;
        agent.block_on(async |client| {
            if let Some(image) = &request.image {
                let (image, pull) = (image.clone(), request.pull);
                // The agent would do it too, and say nothing meanwhile.
                pull_image(client, &PullImage { image, pull }, !quiet).await?;
                // Asked once: what came of it is what boots.
                request.pull = match pull {
                    PullPolicy::Missing | PullPolicy::Always => PullPolicy::Missing,
                    PullPolicy::Never => PullPolicy::Never,
                };
            }
            let instance: Instance = client.post("/v1/instances", &request).await?;
            if detach {
                started(out, client, instance, quiet).await
            } else {
                attached(out, client, instance, quiet).await
            }
        })
    }

    fn request(self) -> Result<CreateInstance, CliError> {
        let secrets = self.secrets.as_deref().map(read_secrets).transpose()?;
        let mut volumes: Vec<Volume> = self.volume.into_iter().map(|VolumeArg(volume)| volume).collect();
        for volume in &mut volumes {
            volume.disk = absolute(Path::new(&volume.disk))?;
        }
        Ok(CreateInstance {
            name: self.name,
            root_disk: self.rootdisk.as_deref().map(absolute).transpose()?,
            image: self.image.map(ImageArg::for_agent).transpose()?,
            pull: self.pull.into(),
            scratch_mib: self.scratch_size,
            scratch_disk: self.scratch.as_deref().map(absolute).transpose()?,
            volumes,
            workload: Workload {
                argv: self.argv,
                entrypoint: self.entrypoint.map(|program| vec![program]),
                env: env::resolve(self.env, |key| std::env::var(key).ok())?,
                cwd: self.cwd,
                user: self.user,
                groups: self.group,
                rlimits: self.ulimit.into_iter().map(|UlimitArg(limit)| limit).collect(),
                pids_max: self.pids_limit,
                stop_signal: self.stop_signal,
                stop_grace_seconds: self.stop_grace,
                tty: false,
            },
            secrets,
            secrets_mode: self.secrets_mode,
            secrets_owner: self.secrets_owner.map(|OwnerArg(owner)| owner),
            network: match (self.network, self.no_network) {
                (true, _) => NetworkMode::On,
                (false, true) => NetworkMode::Off,
                (false, false) => NetworkMode::Auto,
            },
            resources: Resources {
                memory_mib: self.memory,
                vcpus: self.vcpus,
            },
            release: self.release,
        })
    }
}

fn absolute(path: &Path) -> Result<String, CliError> {
    let unusable = |why: &str| {
        CliError::new(
            Category::Failure,
            "disk_invalid",
            format!("cannot use {}: {why}", path.display()),
        )
    };
    let absolute = std::path::absolute(path).map_err(|error| unusable(&error.to_string()))?;
    absolute
        .into_os_string()
        .into_string()
        .map_err(|_| unusable("its path is not UTF-8"))
}

fn read_secrets(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|error| {
        CliError::new(
            Category::Failure,
            "secrets_unreadable",
            format!("cannot read the secrets file {}: {error}", path.display()),
        )
    })
}

async fn started(
    out: &Output,
    client: &Client,
    instance: Instance,
    quiet: bool,
) -> Result<ExitCode, CliError> {
    let instance: Instance = client
        .get(&format!("/v1/instances/{}?wait=ready", instance.id))
        .await?;
    if instance
        .boot
        .as_ref()
        .is_none_or(|boot| boot.outcome != BootOutcome::Ready)
    {
        return Err(boot_failure(&instance));
    }
    note_boot(out, &instance, quiet);
    out.result(&instance, |instance| instance.id.clone())?;
    Ok(ExitCode::SUCCESS)
}

async fn attached(
    out: &Output,
    client: &Client,
    instance: Instance,
    quiet: bool,
) -> Result<ExitCode, CliError> {
    let id = instance.id;
    let (watching, showing) = (
        async {
            let instance: Instance = client.get(&format!("/v1/instances/{id}?wait=ready")).await?;
            note_boot(out, &instance, quiet);
            Ok::<(), CliError>(())
        },
        follow(out, client, &id),
    );
    let work = async {
        let (watched, shown) = tokio::join!(watching, showing);
        watched.and(shown)
    };
    tokio::select! {
        done = work => done?,
        interrupted = interrupts(out, client, &id) => interrupted?,
    }
    let instance: Instance = client.get(&format!("/v1/instances/{id}?wait=stopped")).await?;
    let code = exit_code(&instance)?;
    if out.json {
        out.result(&instance, |_| String::new())?;
    } else if !quiet {
        out.note(&format!("instance {id}: {}", render_exit(&instance)));
    }
    Ok(ExitCode::from(code))
}

/// Shows the program's output until its end.
async fn follow(out: &Output, client: &Client, id: &str) -> Result<(), CliError> {
    let mut response = client
        .send(client.request(Method::GET, &format!("/v1/instances/{id}/output?follow=true")))
        .await?;
    let mut splitter = OutputSplitter::new(out.json);
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => {
                splitter.push(&bytes)?;
            }
            Ok(None) => return Ok(()),
            Err(error) => return Err(CliError::from_error(Category::Transient, "agent_lost", &error)),
        }
    }
}

/// The first Ctrl-C asks the program to stop, the second kills it. Returns only on an error.
async fn interrupts(out: &Output, client: &Client, id: &str) -> Result<(), CliError> {
    for grace_seconds in [None, Some(0)] {
        if tokio::signal::ctrl_c().await.is_err() {
            break;
        }
        out.note("stopping; once more to kill");
        let _: Instance = client
            .post(
                &format!("/v1/instances/{id}/stop"),
                &StopInstance { grace_seconds },
            )
            .await?;
    }
    std::future::pending().await
}

fn note_boot(out: &Output, instance: &Instance, quiet: bool) {
    if let (false, Some(boot)) = (quiet, &instance.boot) {
        out.note(render_boot(boot).trim_end());
        match (&instance.address, &instance.no_network) {
            (Some(address), _) => out.note(&format!("  address          {address}")),
            (None, Some(why)) => out.note(&format!("  no network       {why}")),
            (None, None) => {}
        }
    }
}

fn boot_failure(instance: &Instance) -> CliError {
    let Some(boot) = &instance.boot else {
        return CliError::new(
            Category::Failure,
            "boot_unknown",
            format!("instance {} did not boot", instance.id),
        );
    };
    let stage = boot
        .stage
        .as_ref()
        .map(|stage| format!(" in stage {stage}"))
        .unwrap_or_default();
    let reason = boot.reason.as_deref().unwrap_or("unknown");
    let errno = boot
        .errno
        .map(|errno| format!(", errno {errno}"))
        .unwrap_or_default();
    let detail = boot.detail.as_deref().unwrap_or_default();
    let message = format!(
        "instance {} did not boot: {}{stage} ({reason}{errno}): {detail}",
        instance.id,
        boot.outcome.as_str()
    );
    let mut error = CliError::new(Category::Failure, reason, message).with_hint(Some(format!(
        "all that is known: `plfm instances diagnose {}`",
        instance.id
    )));
    error.details = serde_json::to_value(instance).ok().map(Box::new);
    error
}

fn exit_code(instance: &Instance) -> Result<u8, CliError> {
    if instance
        .boot
        .as_ref()
        .is_none_or(|boot| boot.outcome != BootOutcome::Ready)
    {
        return Err(boot_failure(instance));
    }
    let code = instance.exit.as_ref().and_then(|exit| {
        exit.exit_code
            .or(exit.signal.and_then(|signal| signal.checked_add(128)))
    });
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.ok_or_else(|| {
        let message = format!(
            "instance {} ended without telling how: {}",
            instance.id,
            render_exit(instance)
        );
        CliError::new(Category::Failure, "exit_unknown", message).with_hint(Some(format!(
            "its console: `plfm instances diagnose {}`",
            instance.id
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_name_image_and_mount_point() {
        let VolumeArg(volume) = "data=/a:b.img:/srv/data:ro".parse().unwrap();
        assert_eq!((volume.name.as_str(), volume.disk.as_str()), ("data", "/a:b.img"));
        assert_eq!(
            (volume.mountpoint.as_str(), volume.mode),
            ("/srv/data", VolumeMode::Ro)
        );
        for bad in ["", "data", "data=/a", "=/a:/b", "data=:/b", "data=/a:b"] {
            assert!(bad.parse::<VolumeArg>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_limit_is_soft_and_hard_or_both_in_one() {
        let limit = |text: &str| {
            text.parse()
                .map(|UlimitArg(limit)| (limit.name, limit.soft, limit.hard))
        };
        assert_eq!(limit("nofile=64"), Ok(("nofile".into(), Some(64), Some(64))));
        assert_eq!(limit("core=0:unlimited"), Ok(("core".into(), Some(0), None)));
        for bad in ["nofile", "nofile=", "nofile=a", "nofile=1:", "nofile=-1"] {
            assert!(limit(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn an_owner_is_a_user_and_a_group_by_number() {
        let owner = |text: &str| text.parse().map(|OwnerArg(SecretsOwner { uid, gid })| (uid, gid));
        assert_eq!(owner("1000"), Ok((1000, 0)));
        assert_eq!(owner("1000:44"), Ok((1000, 44)));
        for bad in ["", "app", "1000:", ":1", "-1", "1:2:3"] {
            assert!(owner(bad).is_err(), "{bad:?} was taken");
        }
    }
}
