//! What a trial needs of this machine: a kernel, QEMU, the vsock daemon and a C compiler for the guest.

use std::fs::File;
use std::future::Future;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use plfm_vmm::{
    AcceleratorChoice, Backend, CONSOLE_BYTES_MAX_DEFAULT, START_TIMEOUT_DEFAULT, Vm, VmConfig, VmExit,
    VmImage, VsockPath,
};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

/// Far beyond any boot in emulation on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Lab(Arc<Found>);

struct Found {
    kernel: PathBuf,
    backend: Backend,
    guest: OnceLock<(TempDir, PathBuf)>,
}

impl Lab {
    pub fn find() -> Result<Lab, String> {
        let kernel = std::env::var_os("PLFM_LAB_KERNEL").ok_or("PLFM_LAB_KERNEL names no kernel")?;
        let kernel = PathBuf::from(kernel);
        if !kernel.is_file() {
            return Err(format!("PLFM_LAB_KERNEL: {} is not a file", kernel.display()));
        }
        Command::new("gcc")
            .arg("--version")
            .output()
            .map_err(|_| "gcc is not installed")?;
        let backend = Backend::detect(AcceleratorChoice::Auto).map_err(|error| error.to_string())?;
        Ok(Lab(Arc::new(Found {
            kernel,
            backend,
            guest: OnceLock::new(),
        })))
    }

    pub fn backend(&self) -> &Backend {
        &self.0.backend
    }

    pub fn kernel(&self) -> VmImage {
        File::open(&self.0.kernel).unwrap().into()
    }

    pub fn initramfs(&self) -> VmImage {
        File::open(&self.0.guest.get_or_init(make_initramfs).1)
            .unwrap()
            .into()
    }

    /// A VM that does one thing, in a directory of its own.
    pub fn config(&self, dir: &Path, action: &str) -> VmConfig {
        VmConfig {
            dir: dir.to_path_buf(),
            kernel: self.kernel(),
            initramfs: self.initramfs(),
            cmdline_extra: vec![format!("do={action}")],
            memory_mib: 128,
            vcpus: 1,
            disks: Vec::new(),
            tap: None,
            console_bytes_max: CONSOLE_BYTES_MAX_DEFAULT,
            start_timeout: START_TIMEOUT_DEFAULT,
        }
    }

    pub async fn start(&self, config: VmConfig) -> Vm {
        Vm::start(self.backend(), config)
            .await
            .unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// A guest that has said over vsock that it runs.
    pub async fn start_and_meet(&self, dir: &Path) -> Vm {
        let listener = VsockPath::in_dir(dir).unwrap().listen(5161).unwrap();
        let vm = self.start(self.config(dir, "knock")).await;
        let met = tokio::select! {
            met = timeout(PATIENCE, listener.accept()) => met,
            exit = vm.wait() => panic!("{exit}: {}", exit.console_tail),
        };
        met.expect("the guest did not knock").unwrap();
        vm
    }

    pub async fn run(&self, config: VmConfig) -> VmExit {
        let vm = self.start(config).await;
        end_of(&vm).await
    }
}

pub async fn end_of(vm: &Vm) -> VmExit {
    match timeout(PATIENCE, vm.wait()).await {
        Ok(exit) => exit,
        Err(_) => panic!("the vm did not end; console:\n{}", vm.console_tail()),
    }
}

fn make_initramfs() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/guest.c");
    let guest = dir.path().join("init");
    let compiled = Command::new("gcc")
        .args(["-static", "-Os", "-Wall", "-o"])
        .args([&guest, &source])
        .output()
        .expect("gcc can't be run");
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let bytes = std::fs::read(&guest).unwrap();
    let image = dir.path().join("initramfs.img");
    let entry = cpio::newc::Builder::new("init").mode(0o100_755).ino(1).nlink(1);
    let mut writer = entry.write(File::create(&image).unwrap(), u32::try_from(bytes.len()).unwrap());
    std::io::Write::write_all(&mut writer, &bytes).unwrap();
    cpio::newc::trailer(writer.finish().unwrap()).unwrap();
    (dir, image)
}

/// A trial in a real VM; ignored where there is no lab.
pub fn trial<F, Fut>(lab: &Result<Lab, String>, name: &str, body: F) -> Trial
where
    F: FnOnce(Lab, PathBuf) -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let lab = lab.clone();
    let is_missing = lab.is_err();
    Trial::test(name, move || {
        let lab = lab.map_err(Failed::from)?;
        let dir = tempfile::tempdir().unwrap();
        runtime().block_on(body(lab, dir.path().to_path_buf()));
        assert_eq!(
            processes_with(dir.path()),
            Vec::<u32>::new(),
            "a process was left behind"
        );
        Ok(())
    })
    .with_ignored_flag(is_missing)
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The processes whose command line mentions a directory; none but a VM's does.
pub fn processes_with(dir: &Path) -> Vec<u32> {
    let needle = dir.to_str().unwrap().as_bytes();
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            cmdline.windows(needle.len()).any(|window| window == needle)
        })
        .collect();
    pids.sort_unstable();
    pids
}

/// What is in a directory, by name.
pub fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Waits for something that gives no event of its own.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn signal_of(exit: &VmExit) -> Option<i32> {
    exit.status.and_then(|status| status.signal())
}
