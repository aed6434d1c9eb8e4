//! What a host's owner wants of its VMMs, and what is found for it.

use std::path::{Path, PathBuf};

use crate::accelerator::AcceleratorChoice;
use crate::backend::{Backend, DetectError, QemuPrograms, on_path};
use crate::choice::{Vmm, VmmChoice, VmmFacts, choose};
use crate::firecracker::{Firecracker, FirecrackerVersion, Isolation};
use crate::jail::{JailCgroup, JailUser, Jailer};
use crate::kvm::{KvmFact, ProbeCommand};

/// The user of jails unless another is named.
pub const JAIL_USER_DEFAULT: &str = "plfm-vm";
/// The cgroup of all VMs unless another is named, below the root of cgroup v2.
pub const JAIL_CGROUP_DEFAULT: &str = "plfm-vms";
/// The controllers that limits are set with.
pub(crate) const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// What is wanted.
#[derive(Debug, Clone)]
pub struct VmmWish {
    /// Which VMM.
    pub vmm: VmmChoice,
    /// What runs the guest's instructions.
    pub accelerator: AcceleratorChoice,
    /// How Firecracker is kept apart.
    pub jail: JailWish,
    /// How KVM is tried; without it only its flags and its device are looked at.
    pub probe: Option<ProbeCommand>,
}

/// How Firecracker is to be kept apart.
#[derive(Debug, Clone)]
pub enum JailWish {
    /// In jails.
    Jailed {
        /// Where they are made: on a file system that allows devices.
        base: PathBuf,
        /// Whom the VMM runs as; else the user `plfm-vm`, if there is one.
        user: Option<JailUser>,
        /// The parent cgroup of the VMs, relative to the root of cgroup v2.
        cgroup_parent: String,
    },
    /// Not at all, see [`Isolation::DangerouslyWithoutJail`].
    DangerouslyWithoutJail,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct FoundVmm {
    /// What runs VMs.
    pub backend: Backend,
    /// Why it is this one.
    pub reasons: Vec<String>,
    /// What is less than it should be, in words with what to do.
    pub warnings: Vec<String>,
}

impl Backend {
    /// Looks for what is wanted on this host. Blocks: programs are asked for their version, and KVM is tried.
    pub fn find(wish: &VmmWish) -> Result<FoundVmm, DetectError> {
        let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let qemu = QemuPrograms::find(env);
        let firecracker = find_firecracker(env, &wish.jail);
        let facts = VmmFacts {
            kvm: KvmFact::detect(wish.probe.as_ref()),
            firecracker: firecracker.as_ref().map(|_| ()).map_err(Clone::clone),
            qemu: qemu.as_ref().map(|_| ()).map_err(ToString::to_string),
        };
        let chosen = choose(wish.vmm, wish.accelerator, &facts)?;
        let backend = match (chosen.vmm, firecracker) {
            (Vmm::Firecracker, Ok(firecracker)) => Backend::Firecracker(firecracker),
            (Vmm::Qemu(accelerator), _) => Backend::Qemu {
                accelerator,
                programs: qemu?,
            },
            // The choice goes by the very result, so this is not reached; an error is as good as a panic and safer.
            (Vmm::Firecracker, Err(why)) => {
                return Err(crate::choice::ChoiceError::Firecracker { why }.into());
            }
        };
        let warnings = warnings(&backend);
        Ok(FoundVmm {
            backend,
            reasons: chosen.reasons,
            warnings,
        })
    }
}

/// Firecracker with all that it takes here, or what is missing, in words.
pub(crate) fn find_firecracker(
    env: impl Fn(&str) -> Option<PathBuf>,
    wish: &JailWish,
) -> Result<Firecracker, String> {
    let program = find_program(&env, "PLFM_FIRECRACKER", "firecracker", None)
        .ok_or("it is not in PLFM_FIRECRACKER or on PATH: install Firecracker, version 1.7 to 1.17")?;
    let version = FirecrackerVersion::of(&program).map_err(|error| error.to_string())?;
    let isolation = match wish {
        JailWish::DangerouslyWithoutJail => Isolation::DangerouslyWithoutJail,
        JailWish::Jailed {
            base,
            user,
            cgroup_parent,
        } => {
            let jailer = find_program(&env, "PLFM_JAILER", "jailer", program.parent())
                .ok_or("its jailer is not in PLFM_JAILER, beside it or on PATH: install it too")?;
            let jailers = FirecrackerVersion::of(&jailer).map_err(|error| error.to_string())?;
            if jailers != version {
                return Err(format!(
                    "its version is {version}, and its jailer's is {jailers}: install the two from one release"
                ));
            }
            let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            let user = user.or_else(|| find_user(&passwd, JAIL_USER_DEFAULT)).ok_or_else(|| {
                format!(
                    "its jails have no user: useradd --system --no-create-home --shell /usr/sbin/nologin {JAIL_USER_DEFAULT}"
                )
            })?;
            if user.uid == 0 || user.gid == 0 {
                return Err("its jails' user is root: name another".to_owned());
            }
            if !allows_devices(base) {
                return Err(format!(
                    "its jails would be in {}, which is mounted nodev: have them made elsewhere, with --jail-dir",
                    base.display()
                ));
            }
            Isolation::Jailed(Jailer {
                program: jailer,
                base: base.clone(),
                user,
                cgroup: find_cgroup(cgroup_parent),
                netns: None,
            })
        }
    };
    Ok(Firecracker {
        program,
        version,
        isolation,
    })
}

pub(crate) fn find_program(
    env: &impl Fn(&str) -> Option<PathBuf>,
    variable: &str,
    name: &str,
    beside: Option<&Path>,
) -> Option<PathBuf> {
    use crate::backend::is_program;
    if let Some(named) = env(variable) {
        return Some(named).filter(|file| is_program(file));
    }
    let beside = beside.map(|dir| dir.join(name)).filter(|file| is_program(file));
    beside.or_else(|| on_path(env("PATH").unwrap_or_default().as_os_str(), name))
}

/// Whether device nodes work in a directory, or in the nearest one above it that is there.
fn allows_devices(dir: &Path) -> bool {
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    rustix::fs::statvfs(there).is_ok_and(|stat| !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::NODEV))
}

/// A user in the text of `/etc/passwd`.
pub(crate) fn find_user(passwd: &str, name: &str) -> Option<JailUser> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        Some(JailUser {
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    })
}

/// Where cgroup v2 is mounted, and which of the controllers it has.
pub(crate) fn find_cgroup(parent: &str) -> Option<JailCgroup> {
    let mount = cgroup2_mount(&std::fs::read_to_string("/proc/mounts").unwrap_or_default())?;
    let known = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    let controllers = CONTROLLERS
        .into_iter()
        .filter(|wanted| {
            known
                .split_ascii_whitespace()
                .any(|controller| controller == *wanted)
        })
        .map(str::to_owned)
        .collect();
    Some(JailCgroup {
        mount,
        parent: parent.to_owned(),
        controllers,
    })
}

fn cgroup2_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let dir = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(dir))
    })
}

fn warnings(backend: &Backend) -> Vec<String> {
    let Backend::Firecracker(Firecracker { isolation, .. }) = backend else {
        return Vec::new();
    };
    match isolation {
        Isolation::DangerouslyWithoutJail => vec![
            "FIRECRACKER RUNS WITHOUT ITS JAILER: a guest that breaks out of it is on this host, as the user of this process"
                .to_owned(),
        ],
        Isolation::Jailed(jailer) => {
            let has = |wanted: &str| {
                jailer
                    .cgroup
                    .as_ref()
                    .is_some_and(|cgroup| cgroup.controllers.iter().any(|known| known == wanted))
            };
            let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|wanted| !has(wanted)).collect();
            let words = format!(
                "jails have no limit of {}: boot the host with cgroup v2 (systemd.unified_cgroup_hierarchy=1)",
                missing.join(", ")
            );
            (!missing.is_empty()).then_some(words).into_iter().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nplfm-vms:x:7:7::/:\nplfm-vm:x:990:991::/:/usr/sbin/nologin\n";
        assert_eq!(
            find_user(passwd, "plfm-vm"),
            Some(JailUser { uid: 990, gid: 991 })
        );
        assert_eq!(find_user(passwd, "plfm"), None);
        assert_eq!(find_user("plfm-vm:x:\n", "plfm-vm"), None);
    }

    #[test]
    fn cgroup_v2_is_found_where_it_is_mounted() {
        let hybrid =
            "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            cgroup2_mount(hybrid).unwrap(),
            Path::new("/sys/fs/cgroup/unified")
        );
        assert_eq!(cgroup2_mount("tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"), None);
    }

    #[test]
    fn jails_are_not_made_where_devices_do_not_work() {
        assert!(allows_devices(Path::new("/dev/nothing/here")));
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        // Where this machine has such a mount, as most have.
        for nodev in fields.filter(|fields| fields[3].split(',').any(|option| option == "nodev")) {
            let dir = Path::new(nodev[1]);
            assert!(!dir.is_dir() || !allows_devices(dir), "{nodev:?}");
        }
    }

    #[test]
    fn what_firecracker_lacks_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let jailed = JailWish::Jailed {
            base: dir.path().into(),
            user: None,
            cgroup_parent: JAIL_CGROUP_DEFAULT.into(),
        };
        let why = find_firecracker(|_| None, &jailed).unwrap_err();
        assert!(why.contains("install Firecracker, version 1.7 to 1.17"), "{why}");
        let true_as =
            |variable: &'static str| move |name: &str| (name == variable).then(|| PathBuf::from("/bin/true"));
        let why = find_firecracker(true_as("PLFM_FIRECRACKER"), &jailed).unwrap_err();
        assert!(why.contains("is no version of Firecracker"), "{why}");
    }
}
