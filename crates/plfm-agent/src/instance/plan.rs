//! What to boot: only from an installed release, whose bytes were verified just now.

use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use plfm_api::{CreateInstance, HostTimings, Instance, InstanceState, VolumeMode};
use plfm_cache::{InstalledRelease, OpenPair};
use plfm_guest_protocol::{
    CONFIG_VERSION, Config, EXEC_PORT, ExecService, MountMode, Network, OUTPUT_PORT, OutputStream, Rlimit,
    Secrets, Sensitive, VolumeMount, Workload,
};
use plfm_release::KernelFormat;
use plfm_vmm::{Disk, DiskAccess};

use super::{Chosen, Setting};
use crate::network::{GATEWAY, MTU, instance_address};
use crate::problem::{ApiError, chain};
use plfm_rollout::selection::Selection;

/// Volumes of one instance, at most: the machine's slots, less those of root and scratch disk.
const VOLUMES_MAX: usize = 3;
/// Longest name of an instance, in bytes.
const NAME_MAX: usize = 63;
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 64..=65_536;
const SCRATCH_MIB: std::ops::RangeInclusive<u32> = 8..=1_048_576;
/// No address has a longer text.
const LONGEST_ADDRESS: Ipv6Addr = Ipv6Addr::from_bits(u128::MAX);
/// The config is one line of the control connection, and that has a limit.
const TOO_LARGE: &str = "program, environment, secrets and volumes together have more than 1 MiB as JSON";

/// Everything that is needed to boot one instance. The only way to have one is [`BootPlan::new`].
pub struct BootPlan {
    pub id: String,
    pub release: InstalledRelease,
    /// Why this one.
    pub selection: Selection,
    /// The verified files: these descriptors boot, not paths.
    pub pair: OpenPair,
    pub request: CreateInstance,
    pub created_at: Timestamp,
    /// When the request came: host timings count from here.
    pub started: Instant,
    /// What it took to verify the release's files, in microseconds.
    pub verify_us: u64,
    pub timings: HostTimings,
    pub address_suffix: [u8; 8],
    /// Resolvers of the instance.
    pub dns: Vec<std::net::IpAddr>,
}

impl BootPlan {
    /// Checks the request and opens the release, verifying its bytes. Blocking.
    pub fn new(
        id: String,
        Chosen { release, selection }: Chosen,
        request: CreateInstance,
        dns: Vec<std::net::IpAddr>,
        started: Instant,
    ) -> Result<Self, ApiError> {
        check_request(&request)?;
        if release.manifest().kernel.format != KernelFormat::ElfPvh {
            let detail = format!(
                "release {} has a kernel that this host's VMM does not boot",
                release.id()
            );
            return Err(ApiError::invalid("kernel_format_unsupported", detail));
        }
        let opening = Instant::now();
        let pair = release
            .open()
            .map_err(|error| ApiError::refused(error.code(), &error))?;
        let (verify_us, verified_us) = (elapsed_us(opening), elapsed_us(started));
        let mut address_suffix = [0; 8];
        getrandom::fill(&mut address_suffix).map_err(|error| {
            ApiError::internal(
                "no_randomness",
                format!("no random numbers from the kernel: {error}"),
            )
        })?;
        let plan = Self {
            id,
            release,
            selection,
            pair,
            request,
            created_at: Timestamp::now(),
            started,
            verify_us,
            timings: HostTimings {
                verified_us,
                ..HostTimings::default()
            },
            address_suffix,
            dns,
        };
        // What the guest would refuse is refused here, where somebody reads the answer.
        let config = plan.config(None);
        config
            .check(&plan.id)
            .map_err(|error| ApiError::invalid("instance_invalid", error.to_string()))?;
        plan.config(Some(LONGEST_ADDRESS))
            .check_size()
            .map_err(|_| ApiError::invalid("instance_invalid", TOO_LARGE))?;
        if let Some(secrets) = &plan.request.secrets {
            plfm_guest_protocol::SecretsFile::parse(secrets.as_bytes())
                .map_err(|error| ApiError::invalid("secrets_invalid", error.to_string()))?;
        }
        Ok(plan)
    }

    /// The instance as it begins.
    pub fn first_view(&self, setting: &Setting) -> Instance {
        Instance {
            id: self.id.clone(),
            name: self.request.name.clone(),
            state: InstanceState::Preparing,
            release: self.release.id().clone(),
            release_reason: self.selection.reason.as_str().to_owned(),
            selection: Some(self.selection.to_string()),
            argv: self.request.workload.argv.clone(),
            created_at: self.created_at,
            ended_at: None,
            address: setting
                .no_network
                .is_none()
                .then(|| instance_address(setting.prefix, self.address_suffix)),
            no_network: setting.no_network.map(str::to_owned),
            boot: None,
            exit: None,
            end_unsaved: false,
        }
    }

    /// What the guest is told to be.
    pub fn config(&self, address: Option<Ipv6Addr>) -> Config {
        let workload = &self.request.workload;
        let env = workload
            .env
            .iter()
            .map(|(key, value)| (key.clone(), Sensitive::new(value.clone())))
            .collect();
        let mounts = self
            .request
            .volumes
            .iter()
            .zip('c'..='z')
            .map(|(volume, letter)| VolumeMount {
                kind: "volume".to_owned(),
                name: volume.name.clone(),
                device: format!("/dev/vd{letter}"),
                mountpoint: volume.mountpoint.clone(),
                fs_type: "ext4".to_owned(),
                mode: match volume.mode {
                    VolumeMode::Rw => MountMode::Rw,
                    VolumeMode::Ro => MountMode::Ro,
                },
            });
        let network = address.map(|overlay_ipv6| Network {
            overlay_ipv6,
            gateway_ipv6: GATEWAY,
            prefix_len: 128,
            mtu: u32::from(MTU),
            dns: self.dns.clone(),
            hostname: self.id.to_ascii_lowercase(),
        });
        let owner = self.request.secrets_owner.unwrap_or_default();
        let secrets = self.request.secrets.as_ref().map(|data| Secrets {
            required: true,
            path: "/run/secrets/platform.env".to_owned(),
            mode: self
                .request
                .secrets_mode
                .clone()
                .unwrap_or_else(|| "0400".to_owned()),
            owner_uid: owner.uid,
            owner_gid: owner.gid,
            format: None,
            bundle_version_id: None,
            data: Some(Sensitive::new(data.clone())),
        });
        Config {
            config_version: CONFIG_VERSION.to_owned(),
            instance_id: self.id.clone(),
            generation: 1,
            required_features: required_features(workload),
            workload: Workload {
                argv: workload.argv.clone(),
                cwd: workload.cwd.clone().unwrap_or_else(|| "/".to_owned()),
                env,
                uid: 0,
                gid: 0,
                user: workload.user.clone(),
                groups: workload.groups.clone(),
                stdin: false,
                tty: workload.tty,
                stop_signal: workload
                    .stop_signal
                    .clone()
                    .unwrap_or_else(|| "SIGTERM".to_owned()),
                stop_grace_seconds: self.stop_grace_seconds(),
                rlimits: workload.rlimits.iter().map(rlimit).collect(),
                pids_max: workload.pids_max,
            },
            network,
            mounts: mounts.collect(),
            secrets,
            exec: ExecService {
                vsock_port: EXEC_PORT,
                enabled: true,
            },
            output: Some(OutputStream {
                vsock_port: OUTPUT_PORT,
            }),
        }
    }

    /// Whether the scratch disk is the requester's own.
    pub fn has_own_scratch(&self) -> bool {
        self.request.scratch_disk.is_some()
    }

    /// How long the workload may take to end, in seconds.
    pub fn stop_grace_seconds(&self) -> u32 {
        self.request.workload.stop_grace_seconds.unwrap_or(10)
    }

    /// The disks in order: root, scratch, volumes.
    pub fn disks(&self, scratch: &Path) -> Vec<Disk> {
        let root = Disk {
            path: self.request.root_disk.clone().into(),
            access: DiskAccess::ReadOnly,
        };
        let scratch = Disk {
            path: scratch.to_owned(),
            access: DiskAccess::ReadWrite,
        };
        let volumes = self.request.volumes.iter().map(|volume| Disk {
            path: volume.disk.clone().into(),
            access: match volume.mode {
                VolumeMode::Rw => DiskAccess::ReadWrite,
                VolumeMode::Ro => DiskAccess::ReadOnly,
            },
        });
        [root, scratch].into_iter().chain(volumes).collect()
    }
}

/// What a guest init that does not know it must refuse rather than leave out.
fn required_features(workload: &plfm_api::Workload) -> Vec<String> {
    let features = [
        ("output_stream", true),
        ("rlimits", !workload.rlimits.is_empty()),
        ("pids_max", workload.pids_max.is_some()),
    ];
    let needed = features.into_iter().filter(|(_, needed)| *needed);
    needed.map(|(name, _)| name.to_owned()).collect()
}

fn rlimit(limit: &plfm_api::Rlimit) -> Rlimit {
    let plfm_api::Rlimit { name, soft, hard } = limit.clone();
    Rlimit { name, soft, hard }
}

/// Microseconds since `start`.
pub fn elapsed_us(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn check_request(request: &CreateInstance) -> Result<(), ApiError> {
    if let Some(name) = &request.name {
        check_name(name)?;
    }
    check_disk("root disk", &request.root_disk)?;
    if let Some(scratch) = &request.scratch_disk {
        check_disk("scratch disk", scratch)?;
    }
    for volume in &request.volumes {
        check_disk(&format!("disk of volume {:?}", volume.name), &volume.disk)?;
    }
    if request.volumes.len() > VOLUMES_MAX {
        return Err(ApiError::invalid(
            "too_many_volumes",
            format!("an instance has at most {VOLUMES_MAX} volumes"),
        ));
    }
    if request.secrets.is_none() && (request.secrets_mode.is_some() || request.secrets_owner.is_some()) {
        return Err(ApiError::invalid(
            "instance_invalid",
            "secrets_mode and secrets_owner are of no use without secrets",
        ));
    }
    let resources = request.resources;
    if !MEMORY_MIB.contains(&resources.memory_mib) {
        let detail = format!(
            "memory of {} MiB is not {} to {}",
            resources.memory_mib,
            MEMORY_MIB.start(),
            MEMORY_MIB.end()
        );
        return Err(ApiError::invalid("memory_invalid", detail));
    }
    if !SCRATCH_MIB.contains(&request.scratch_mib) {
        let detail = format!(
            "a scratch disk of {} MiB is not {} to {}",
            request.scratch_mib,
            SCRATCH_MIB.start(),
            SCRATCH_MIB.end()
        );
        return Err(ApiError::invalid("scratch_invalid", detail));
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if resources.vcpus == 0 || usize::from(resources.vcpus) > cpus {
        return Err(ApiError::invalid(
            "vcpus_invalid",
            format!("{} processors is not 1 to {cpus}", resources.vcpus),
        ));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let is_fit = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_fit) {
        Ok(())
    } else {
        let shown: String = name.chars().take(NAME_MAX).collect();
        Err(ApiError::invalid(
            "name_invalid",
            format!("the name {shown:?} is not 1 to {NAME_MAX} of a-z, 0-9, - and ."),
        ))
    }
}

fn check_disk(what: &str, path: &str) -> Result<(), ApiError> {
    use std::os::unix::fs::FileTypeExt as _;
    if !path.starts_with('/') {
        return Err(ApiError::invalid(
            "disk_invalid",
            format!("the {what} {path:?} is not an absolute path"),
        ));
    }
    let metadata = std::fs::metadata(path).map_err(|error| {
        ApiError::invalid(
            "disk_invalid",
            format!("cannot use the {what} {path}: {}", chain(&error)),
        )
    })?;
    let kind = metadata.file_type();
    if kind.is_file() && metadata.len() == 0 {
        return Err(ApiError::invalid(
            "disk_invalid",
            format!("the {what} {path} is empty"),
        ));
    }
    if kind.is_file() || kind.is_block_device() {
        Ok(())
    } else {
        Err(ApiError::invalid(
            "disk_invalid",
            format!("the {what} {path} is neither a file nor a block device"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "web-1.example", &"x".repeat(63)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "Web", "a_b", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(check_name(name).unwrap_err().code(), "name_invalid", "{name}");
        }
    }
}
