//! A microVM of the lab's release whose host is the test itself: what an agent would never say can be said here.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plfm_vmm::{AcceleratorChoice, Backend, Disk, DiskAccess, ExitCause, TapConfig, Vm, VmConfig, VmImage};
use serde_json::{Value, json};

use crate::boot::{initramfs_of, kernel_of};
use crate::host::tool;
use crate::lab;

pub const ID: &str = "i-test";
/// How long a whole VM may take, start to end.
const PATIENCE: Duration = Duration::from_secs(150);

/// A microVM that is to be booted.
pub struct Machine {
    dir: tempfile::TempDir,
    disks: Vec<Disk>,
    cmdline: Vec<String>,
    stalled: Option<(usize, u64)>,
    deaf_output: bool,
    tap: Option<TapConfig>,
}

/// What a VM left: its console, and what it said to the host.
pub struct Story {
    pub console: String,
    pub said: Vec<Value>,
    pub took: Duration,
}

impl Story {
    /// The failure it reported over vsock: stage, reason, detail.
    #[track_caller]
    pub fn failure(&self) -> (&str, &str, &str) {
        let failed = self.said.iter().find(|message| message["state"] == "failed");
        let failed =
            failed.unwrap_or_else(|| panic!("no failure was reported: {:?}\n{}", self.said, self.console));
        ["stage", "reason", "detail"]
            .map(|key| failed[key].as_str().unwrap_or_default())
            .into()
    }

    /// The same failure on both ways: as a status over vsock, and as a line on the console.
    #[track_caller]
    pub fn assert_failed(&self, stage: &str, reason: &str) {
        assert_eq!(
            (self.failure().0, self.failure().1),
            (stage, reason),
            "{}",
            self.console
        );
        self.assert_on_console(&format!("guest-init: boot failed: stage={stage} reason={reason}"));
    }

    #[track_caller]
    pub fn assert_on_console(&self, text: &str) {
        assert!(
            self.console.contains(text),
            "{text:?} is not on the console:\n{}",
            self.console
        );
    }

    /// The states that it reported, in order.
    pub fn states(&self) -> Vec<&str> {
        self.said
            .iter()
            .filter_map(|message| message["state"].as_str())
            .collect()
    }
}

/// A config that is enough to boot.
pub fn config() -> Value {
    json!({
        "type": "config", "config_version": "v1", "instance_id": ID, "generation": 1,
        "workload": {"argv": ["/bin/sh", "-c", "exit 11"]},
    })
}

/// Reads messages until the guest closes or has said its last word.
pub fn listen_to(stream: UnixStream) -> Vec<Value> {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut said = Vec::new();
    for message in lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok()) {
        let is_last = matches!(message["state"].as_str(), Some("failed" | "exited"));
        said.push(message);
        if is_last {
            break;
        }
    }
    said
}

/// Answers the hello with `bytes` and listens to the rest.
pub fn answer(bytes: Vec<u8>) -> impl FnOnce(UnixStream) -> Vec<Value> + Send + 'static {
    move |mut stream| {
        let hello = read_hello(&mut stream);
        // A guest that refuses a long line closes before it has read it.
        let _ = stream.write_all(&bytes);
        std::iter::once(hello).chain(listen_to(stream)).collect()
    }
}

pub fn answer_config(config: &Value) -> impl FnOnce(UnixStream) -> Vec<Value> + Send + 'static {
    answer(format!("{config}\n").into_bytes())
}

pub fn read_hello(stream: &mut UnixStream) -> Value {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).is_ok_and(|length| length == 1) && byte != *b"\n" {
        line.extend(byte);
    }
    serde_json::from_slice(&line).unwrap()
}

impl Machine {
    /// With the lab's root disk and an empty scratch disk.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plfm-m-")
            .tempdir_in("/tmp")
            .unwrap();
        let scratch = dir.path().join("scratch.img");
        make_ext4(&scratch, "16M", &[]);
        let disks = vec![
            disk(&lab::root_disk(), DiskAccess::ReadOnly),
            disk(&scratch, DiskAccess::ReadWrite),
        ];
        Self {
            dir,
            disks,
            cmdline: vec![format!("plfm.instance_id={ID}")],
            stalled: None,
            deaf_output: false,
            tap: None,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn with_root(mut self, path: &Path) -> Self {
        self.disks[0] = disk(path, DiskAccess::ReadOnly);
        self
    }

    pub fn with_scratch(mut self, path: &Path, access: DiskAccess) -> Self {
        self.disks[1] = disk(path, access);
        self
    }

    pub fn with_cmdline(mut self, words: &[&str]) -> Self {
        self.cmdline = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// A disk that answers for its first `bytes`, and for the next ones not within hours.
    pub fn with_stalled_disk(mut self, index: usize, bytes: u64) -> Self {
        self.stalled = Some((index, bytes));
        self
    }

    pub fn with_volume(mut self, path: &Path) -> Self {
        self.disks.push(disk(path, DiskAccess::ReadWrite));
        self
    }

    /// An interface that leads to a tap device of this name, which must be there.
    pub fn with_tap(mut self, name: &str, mtu: u16) -> Self {
        let mac = plfm_vmm::MacAddress::local([1, 2, 3, 4, 5]);
        let name = name.to_owned();
        self.tap = Some(TapConfig { name, mac, mtu });
        self
    }

    /// A host that takes the workload's output connection and never reads from it.
    pub fn with_deaf_output(mut self) -> Self {
        self.deaf_output = true;
        self
    }

    /// Boots with `host` as its host end, or with nobody there, and waits for the VM's end.
    pub fn boot(self, host: Option<impl FnOnce(UnixStream) -> Vec<Value> + Send + 'static>) -> Story {
        let talk = host.map(|host| {
            let listener = UnixListener::bind(self.path("v.sock_5161")).unwrap();
            std::thread::spawn(move || host(listener.accept().unwrap().0))
        });
        // Held open, and never read from, until the VM has ended.
        let _deaf = self.deaf_output.then(|| {
            let listener = UnixListener::bind(self.path("v.sock_5163")).unwrap();
            std::thread::spawn(move || listener.accept().map(|(stream, _)| std::mem::forget(stream)))
        });
        let open = |path: PathBuf| VmImage::new(std::fs::File::open(path).unwrap());
        let backend = self.backend();
        let config = VmConfig {
            dir: self.dir.path().to_owned(),
            kernel: open(kernel_of(&lab::release())),
            initramfs: open(initramfs_of(&lab::release())),
            cmdline_extra: self.cmdline.clone(),
            memory_mib: 128,
            vcpus: 1,
            disks: self.disks.clone(),
            tap: self.tap.clone(),
            console_bytes_max: plfm_vmm::CONSOLE_BYTES_MAX_DEFAULT,
            start_timeout: plfm_vmm::START_TIMEOUT_DEFAULT,
        };
        let started = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let exit = runtime.block_on(async {
            let vm = Vm::start(&backend, config).await.unwrap();
            tokio::time::timeout(PATIENCE, vm.wait())
                .await
                .expect("the VM did not end")
        });
        let took = started.elapsed();
        assert_eq!(
            (exit.cause, &exit.kernel_panic),
            (ExitCause::GuestReset, &None),
            "{}",
            exit.console_tail
        );
        let console = std::fs::read_to_string(self.path("console.log")).unwrap();
        let said = talk.map(|talk| talk.join().unwrap()).unwrap_or_default();
        Story { console, said, took }
    }

    /// Boots with `config`; when the workload runs, `work` is called with a way to the guest's ports, and then the
    /// workload is stopped.
    pub fn boot_and(self, config: &Value, work: impl Fn(&Guest) + Send + 'static) -> Story {
        let (config, guest) = (
            format!("{config}\n"),
            Guest {
                socket: self.path("v.sock"),
            },
        );
        self.boot(Some(move |mut stream: UnixStream| {
            let mut said = vec![read_hello(&mut stream)];
            stream.write_all(config.as_bytes()).unwrap();
            let mut failed = None;
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for line in lines.by_ref().map_while(Result::ok) {
                let message: Value = serde_json::from_str(&line).unwrap();
                let is_ready = message["state"] == "ready";
                said.push(message);
                if is_ready {
                    // A failed check must not leave the guest running.
                    failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&guest))).err();
                    stream
                        .write_all(b"{\"type\":\"stop\",\"grace_seconds\":0}\n")
                        .unwrap();
                }
                if matches!(said.last().unwrap()["state"].as_str(), Some("failed" | "exited")) {
                    break;
                }
            }
            if let Some(panic) = failed {
                std::panic::resume_unwind(panic);
            }
            said
        }))
    }

    /// The emulator of this machine; for a stalled disk, one that is told to serve it a byte a second.
    fn backend(&self) -> Backend {
        let mut backend = Backend::detect(AcceleratorChoice::Auto).unwrap();
        let Backend::Qemu { programs, .. } = &mut backend else {
            panic!("a machine of the tests' own runs in QEMU")
        };
        if let Some((index, bytes)) = self.stalled {
            let wrapper = self.path("qemu");
            let script = format!(
                "#!/bin/sh\nfor arg; do shift\ncase \"$arg\" in *id=disk{index},*) arg=\"$arg,throttling.bps-total=1,throttling.bps-total-max={bytes}\";; esac\n\
                 set -- \"$@\" \"$arg\"\ndone\nexec {} \"$@\"\n",
                programs.qemu.display()
            );
            std::fs::write(&wrapper, script).unwrap();
            std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
            programs.qemu = wrapper;
        }
        backend
    }
}

/// The way to a running guest's ports.
pub struct Guest {
    socket: PathBuf,
}

impl Guest {
    /// Connects to a vsock port of the guest.
    pub fn dial(&self, port: u32) -> UnixStream {
        self.try_dial(port).unwrap_or_else(|answer| panic!("{answer:?}"))
    }

    /// The same, or what the way to the port answers: nothing where nobody listens.
    pub fn try_dial(&self, port: u32) -> Result<UnixStream, String> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
        let (mut line, mut byte) = (Vec::new(), [0]);
        while stream.read(&mut byte).is_ok_and(|length| length == 1) && byte != *b"\n" {
            line.extend(byte);
        }
        let answer = String::from_utf8(line).unwrap();
        if answer.starts_with("OK ") {
            Ok(stream)
        } else {
            Err(answer)
        }
    }
}

fn disk(path: &Path, access: DiskAccess) -> Disk {
    Disk {
        path: path.to_owned(),
        access,
    }
}

/// Makes an ext4 file system.
pub fn make_ext4(path: &Path, size: &str, options: &[&str]) {
    let mut args = vec!["-q", "-t", "ext4", "-O", "^has_journal"];
    args.extend(options);
    args.extend([path.to_str().unwrap(), size]);
    tool("mke2fs", &args).ok();
}
