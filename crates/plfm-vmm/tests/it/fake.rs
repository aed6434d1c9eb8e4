//! A Firecracker and a jailer of our own making, see `tests/fake/firecracker.rs`, and what is left of their VMs.

use std::fs::File;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use plfm_vmm::{
    Backend, CONSOLE_BYTES_MAX_DEFAULT, Disk, DiskAccess, Firecracker, FirecrackerVersion, Isolation, Jail,
    JailCgroup, JailUser, Jailer, START_TIMEOUT_DEFAULT, VmConfig, VmImage,
};
use tempfile::TempDir;

use crate::lab::{entries, runtime};

/// Nobody's on any machine, and nothing is owned by it.
pub const USER: JailUser = JailUser {
    uid: 64_990,
    gid: 64_991,
};

/// With the jailer, or without: what holds, holds for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Jailed,
    Unjailed,
}

/// One VM's surroundings: a directory for it, one for jails, disks, and the programs.
pub struct Site {
    pub kind: Kind,
    pub dir: PathBuf,
    pub backend: Backend,
    home: TempDir,
    id: String,
    cgroup: Option<PathBuf>,
}

/// Why no trial can run here, if none can. Asked once: every trial wants to know.
pub fn missing() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(look_for_missing).clone()
}

fn look_for_missing() -> Option<String> {
    let is_root = rustix::process::geteuid().is_root();
    let has_rustc = Command::new("rustc").arg("--version").output().is_ok();
    match (is_root, has_rustc) {
        (true, true) => None,
        (false, _) => Some("jails take root".to_owned()),
        (true, false) => {
            Some("rustc is not on PATH, and the fake firecracker is compiled with it".to_owned())
        }
    }
}

/// A trial with the fake, once jailed and once not; ignored where this machine can't run it.
pub fn trials<F, Fut>(name: &str, act: &str, body: F) -> Vec<Trial>
where
    F: FnOnce(Site) -> Fut + Send + Clone + 'static,
    Fut: Future<Output = Site>,
{
    [Kind::Jailed, Kind::Unjailed]
        .into_iter()
        .map(|kind| trial(kind, name, act, body.clone()))
        .collect()
}

/// A trial of one kind. Whatever its end, nothing of the VM may be left.
pub fn trial<F, Fut>(kind: Kind, name: &str, act: &str, body: F) -> Trial
where
    F: FnOnce(Site) -> Fut + Send + 'static,
    Fut: Future<Output = Site>,
{
    let act = act.to_owned();
    let (suffix, word) = match kind {
        Kind::Jailed => ("j", "jailed"),
        Kind::Unjailed => ("u", "unjailed"),
    };
    let missing = missing();
    let is_missing = missing.is_some();
    let trial_name = if name.contains("::") {
        format!("{name}::{word}")
    } else {
        format!("{name}_{word}")
    };
    Trial::test(trial_name, move || {
        if let Some(missing) = missing {
            return Err(Failed::from(missing));
        }
        let site = Site::new(kind, &format!("{act}--{suffix}"));
        let site = runtime().block_on(async { body(site).await });
        site.assert_nothing_is_left();
        Ok(())
    })
    .with_ignored_flag(is_missing)
}

impl Site {
    fn new(kind: Kind, id: &str) -> Site {
        Site::with(kind, id, program(), program(), &["pids"])
    }

    /// A site with these programs.
    pub fn with(kind: Kind, id: &str, firecracker: &Path, jailer: &Path, controllers: &[&str]) -> Site {
        let home = tempfile::tempdir().unwrap();
        let programs = home.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        for (name, program) in [("firecracker", firecracker), ("jailer", jailer)] {
            // Not copied: what was just written can't be executed while another trial forks.
            let linked = std::fs::hard_link(program, programs.join(name));
            linked
                .or_else(|_| std::fs::copy(program, programs.join(name)).map(drop))
                .unwrap();
        }
        let base = home.path().join("jails");
        std::fs::create_dir(&base).unwrap();
        let cgroup = cgroup2().map(|mount| JailCgroup {
            parent: "plfm-test".into(),
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            mount,
        });
        let program = programs.join("firecracker");
        let version = FirecrackerVersion::of(&program).unwrap();
        let isolation = match kind {
            Kind::Jailed => Isolation::Jailed(Jailer {
                program: programs.join("jailer"),
                base,
                user: USER,
                cgroup: cgroup.clone(),
                netns: None,
            }),
            Kind::Unjailed => Isolation::DangerouslyWithoutJail,
        };
        Site::furnished(
            kind,
            id,
            home,
            Firecracker {
                program,
                version,
                isolation,
            },
        )
    }

    fn furnished(kind: Kind, id: &str, home: TempDir, firecracker: Firecracker) -> Site {
        let dir = home.path().join(id);
        std::fs::create_dir(&dir).unwrap();
        let disks = home.path().join("disks");
        std::fs::create_dir(&disks).unwrap();
        let image = |name: &str, start: &[u8], mode| {
            let path = disks.join(name);
            std::fs::write(&path, [start, &[0; 4096]].concat()).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        image("kernel", b"\x7fELF", 0o444);
        image("initramfs", b"070701", 0o444);
        image("root", b"root", 0o444);
        image("scratch", b"scratch", 0o600);
        let backend = Backend::Firecracker(firecracker);
        let cgroup = backend.jail(&dir).unwrap().and_then(|jail| jail.cgroup);
        Site {
            kind,
            dir,
            backend,
            home,
            id: id.to_owned(),
            cgroup,
        }
    }

    pub fn config(&self) -> VmConfig {
        let disk = |name: &str, access| Disk {
            path: self.disk(name),
            access,
        };
        VmConfig {
            dir: self.dir.clone(),
            kernel: self.image("kernel"),
            initramfs: self.image("initramfs"),
            cmdline_extra: vec!["plfm.instance_id=i1".into()],
            memory_mib: 128,
            vcpus: 1,
            disks: vec![
                disk("root", DiskAccess::ReadOnly),
                disk("scratch", DiskAccess::ReadWrite),
            ],
            tap: None,
            console_bytes_max: CONSOLE_BYTES_MAX_DEFAULT,
            start_timeout: START_TIMEOUT_DEFAULT,
        }
    }

    /// For starts that can only end with their time.
    pub fn impatient(&self) -> VmConfig {
        VmConfig {
            start_timeout: Duration::from_secs(2),
            ..self.config()
        }
    }

    pub fn disk(&self, name: &str) -> PathBuf {
        self.home.path().join("disks").join(name)
    }

    fn image(&self, name: &str) -> VmImage {
        File::open(self.disk(name)).unwrap().into()
    }

    pub fn jail(&self) -> Option<Jail> {
        self.backend.jail(&self.dir).unwrap()
    }

    /// The same host with a program gone.
    pub fn without(&self, program: &str) -> &Site {
        std::fs::remove_file(self.home.path().join("programs").join(program)).unwrap();
        self
    }

    /// What is left of the VM beside the console's log: processes, mounts, files, cgroup, locks.
    pub fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = processes_with_id(&self.id)
            .iter()
            .map(|pid| format!("process {pid}"))
            .collect();
        let home = self.home.path().to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(home))
                .map(str::to_owned),
        );
        if let Some(jail) = self.jail().filter(|jail| jail.dir.exists()) {
            left.push(format!("{}: {:?}", jail.dir.display(), entries(&jail.dir)));
        }
        left.extend(
            self.cgroup
                .iter()
                .filter(|cgroup| cgroup.exists())
                .map(|cgroup| format!("{cgroup:?}")),
        );
        let files = entries(&self.dir).into_iter();
        left.extend(files.filter(|name| name != "console.log"));
        left.extend((!self.is_unlocked()).then(|| "the lock on a disk".to_owned()));
        left
    }

    fn is_unlocked(&self) -> bool {
        let scratch = File::open(self.disk("scratch")).unwrap();
        // Another trial that forks at this moment has a copy of the descriptor until it executes its program.
        (0..200).any(|_| {
            let lock = rustix::fs::flock(&scratch, rustix::fs::FlockOperation::NonBlockingLockExclusive);
            lock.is_ok() || {
                std::thread::sleep(Duration::from_millis(1));
                false
            }
        })
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.left(), Vec::<String>::new());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // A failed trial must not leave its processes and mounts to the next.
        if let Some(jail) = self.backend.jail(&self.dir).ok().flatten() {
            let _ = jail.remove();
        }
        if let Some(parent) = self.cgroup.as_ref().and_then(|cgroup| cgroup.parent()) {
            // Goes with the last trial that has it.
            let _ = std::fs::remove_dir(parent);
        }
    }
}

pub fn cgroup2() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let dir = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(dir))
    })?;
    let probe = mount.join("plfm-test");
    std::fs::create_dir_all(&probe).is_ok().then_some(mount)
}

/// The processes, zombies aside, that were given this id.
pub fn processes_with_id(id: &str) -> Vec<u32> {
    let wanted = format!("--id\0{id}\0");
    let has = |pid: &u32| {
        let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        cmdline
            .windows(wanted.len())
            .any(|window| window == wanted.as_bytes())
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(has)
        .collect()
}

/// The fake, compiled once for all processes that run trials: by the digest of its source, renamed into place.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/firecracker.rs");
        let mut digest = DefaultHasher::new();
        std::fs::read(&source).unwrap().hash(&mut digest);
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fake-{:016x}", digest.finish()));
        let program = home.join("firecracker");
        if program.exists() {
            return program;
        }
        std::fs::create_dir_all(&home).unwrap();
        let dir = tempfile::tempdir_in(&home).unwrap();
        let made = dir.path().join("firecracker");
        // Static, because there is no library in a jail.
        let compiled = Command::new("rustc")
            .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-o"])
            .args([&made, &source])
            .output()
            .expect("rustc can't be run");
        assert!(
            compiled.status.success(),
            "{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        std::fs::rename(&made, &program).unwrap();
        program
    })
}
