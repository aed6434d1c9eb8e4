//! What to boot: only from an installed release, whose bytes were verified just now.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use plfm_api::{CreateInstance, HostTimings, Instance, InstanceState, VolumeMode};
use plfm_cache::{InstalledRelease, OpenPair};
use plfm_guest_protocol::{
    CONFIG_VERSION, Config, EXEC_PORT, ExecService, MountMode, Network, OUTPUT_PORT, OutputStream, Secrets,
    Sensitive, VolumeMount, Workload,
};
use plfm_release::KernelFormat;
use plfm_vmm::{Disk, DiskAccess};

use super::request::check_request;
use super::verdict::Brought;
use super::workload::{required_features, workload_of};
use super::{Chosen, Setting};
use crate::agent::Obtained;
use crate::network::{GATEWAY, MTU, instance_address};
use crate::problem::ApiError;
use plfm_rollout::selection::Selection;

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
    /// The image that its root disk is of, kept on the host by this; none, if the request brings a root disk.
    pub image: Option<Obtained>,
    /// What runs in it: what the request says, and the image where that says nothing.
    pub workload: Workload,
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
        Chosen {
            release,
            selection,
            image,
        }: Chosen,
        request: CreateInstance,
        dns: Vec<std::net::IpAddr>,
        started: Instant,
    ) -> Result<Self, ApiError> {
        check_request(&request)?;
        let defaults = image.as_ref().map(|obtained| obtained.image.defaults());
        let workload = workload_of(&request, defaults)?;
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
            image,
            workload,
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
            image: self.image.as_ref().map(Obtained::of_instance),
            argv: self.workload.argv.clone(),
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
            required_features: required_features(&self.workload),
            workload: self.workload.clone(),
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

    /// The disks that the customer made, and not this host.
    pub fn brought(&self) -> Brought {
        Brought {
            root_disk: self.image.is_none(),
            scratch_disk: self.request.scratch_disk.is_some(),
        }
    }

    /// How long the workload may take to end, in seconds.
    pub fn stop_grace_seconds(&self) -> u32 {
        self.workload.stop_grace_seconds
    }

    fn root_disk(&self) -> PathBuf {
        match &self.image {
            Some(obtained) => obtained.image.disk_path(),
            None => self.request.root_disk.clone().unwrap_or_default().into(),
        }
    }

    /// The disks in order: root, scratch, volumes.
    pub fn disks(&self, scratch: &Path) -> Vec<Disk> {
        let root = Disk {
            path: self.root_disk(),
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

/// Microseconds since `start`.
pub fn elapsed_us(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
