//! Guest init's own work, from the kernel's first word to `ready`, stage by stage, under `-icount`.
//!
//! The guest's clock counts instructions (one a nanosecond), and each stage reports the processor time that guest init
//! itself spent, so waiting for the host costs nothing and a busy machine disturbs nothing. The guest gets all that a
//! config can ask for: network, secrets, a volume, exec, limits. This task is its host.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use plfm_guest_protocol::{CONTROL_PORT, Config, HostEvent, HostSession, OUTPUT_PORT, StageTiming};
use serde_json::json;

use super::{millions, percentile};
use crate::lab::{self, Lab};
use crate::setup;
use crate::shell::{find, run_quietly, step};

/// Longest wait for one guest: under `-icount` a boot takes some seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const ID: &str = "bench";

/// Boots `count` guests and prints what each stage took.
pub fn run(count: u32) -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    let mut boots = Vec::new();
    for number in 1..=count {
        step(&format!("guest {number} of {count}"));
        boots.push(boot(&lab)?);
    }
    println!("| stage | instructions of guest init, median | most |");
    println!("|---|---|---|");
    let row = |name: &str, mut us: Vec<u64>| {
        us.sort_unstable();
        let instructions = |us: u64| millions(us.saturating_mul(1_000));
        let (median, most) = (percentile(&us, 50), percentile(&us, 100));
        println!("| {name} | {} | {} |", instructions(median), instructions(most));
    };
    let names: Vec<&str> = boots
        .first()
        .map(|stages| stages.iter().map(|timing| timing.stage.as_str()).collect())
        .unwrap_or_default();
    for (index, name) in names.iter().enumerate() {
        let cpu = boots.iter().filter_map(|stages| stages.get(index));
        row(name, cpu.map(|timing| timing.cpu_us).collect());
    }
    let total = |from: usize| {
        let boots = boots.iter();
        boots
            .map(|stages| stages.iter().skip(from).map(|timing| timing.cpu_us).sum())
            .collect()
    };
    row("**handshake to ready**", total(1));
    row("all stages", total(0));
    Ok(())
}

/// Ends a process that this task started, whatever happens.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn boot(lab: &Lab) -> anyhow::Result<Vec<StageTiming>> {
    let dir = tempfile::Builder::new()
        .prefix("plfm-bench-")
        .tempdir_in("/tmp")?;
    let dir = dir.path();
    for disk in ["scratch.img", "volume.img"] {
        run_quietly(
            Command::new(find("mke2fs").context("mke2fs is not installed")?)
                .args(["-q", "-t", "ext4", "-O", "^has_journal"])
                .arg(dir.join(disk))
                .arg("64M"),
        )?;
    }
    let listen = |port: u32| UnixListener::bind(dir.join(format!("v.sock_{port}")));
    let (control, _output) = (listen(CONTROL_PORT)?, listen(OUTPUT_PORT)?);
    control.set_nonblocking(true)?;
    let daemon = find("vhost-device-vsock").context("vhost-device-vsock is not installed")?;
    let sockets = format!(
        "guest-cid=3,uds-path={0}/v.sock,socket={0}/vhost.sock",
        dir.display()
    );
    let _daemon = Ended(
        Command::new(daemon)
            .args(["--vm", &sockets])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let deadline = Instant::now() + PATIENCE;
    wait_until(deadline, "the vsock daemon", || {
        Ok(dir.join("vhost.sock").exists().then_some(()))
    })?;
    let mut qemu = Ended(qemu(lab, dir)?.spawn()?);
    let stream = wait_until(deadline, "the guest's hello", || {
        if let Some(status) = qemu.0.try_wait()? {
            bail!("QEMU ended with {status} before the guest said anything");
        }
        Ok(control.accept().ok().map(|(stream, _)| stream))
    })?;
    converse(stream)
}

/// Looks until there is something to see.
fn wait_until<T>(
    deadline: Instant,
    what: &str,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if Instant::now() >= deadline {
            bail!("{what} did not come within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn qemu(lab: &Lab, dir: &Path) -> anyhow::Result<Command> {
    let release = lab.release();
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-M",
        "microvm,acpi=off,rtc=on,memory-backend=mem0",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "128",
    ]);
    qemu.args([
        "-object",
        "memory-backend-memfd,id=mem0,size=128M,share=on",
        "-icount",
        "shift=0,sleep=off",
    ]);
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-serial",
        "null",
    ]);
    // The time-stamp counter counts instructions at 1 GHz here, so it need not be calibrated, and is the clock.
    let cmdline = format!(
        "console=ttyS0 quiet panic=-1 reboot=t nolapic_timer no_timer_check tsc_early_khz=1000000 tsc=reliable \
         plfm.instance_id={ID}"
    );
    qemu.args(["-append", &cmdline]);
    qemu.arg("-kernel").arg(lab::artifact(&release, "vmlinuz-")?);
    qemu.arg("-initrd").arg(lab::artifact(&release, "initramfs-")?);
    let disks = [
        (lab.root_disk(), "on"),
        (dir.join("scratch.img"), "off"),
        (dir.join("volume.img"), "off"),
    ];
    for (index, (path, read_only)) in disks.iter().enumerate() {
        qemu.arg("-drive").arg(format!(
            "if=none,id=disk{index},format=raw,read-only={read_only},file={}",
            path.display()
        ));
        qemu.args(["-device", &format!("virtio-blk-device,drive=disk{index}")]);
    }
    // An interface that leads nowhere.
    qemu.args([
        "-netdev",
        "hubport,id=net0,hubid=0",
        "-device",
        "virtio-net-device,netdev=net0",
    ]);
    let vhost = format!("socket,id=vsock,path={}/vhost.sock", dir.display());
    qemu.args([
        "-chardev",
        &vhost,
        "-device",
        "vhost-user-vsock-device,chardev=vsock",
    ]);
    qemu.stdin(Stdio::null());
    Ok(qemu)
}

fn config() -> anyhow::Result<Config> {
    Ok(serde_json::from_value(json!({
        "config_version": "v1", "instance_id": ID, "generation": 1,
        "workload": {
            "argv": ["sleep", "600"], "env": {"PATH": "/bin"}, "user": "app", "pids_max": 64,
            "rlimits": [{"name": "nofile", "soft": 1024, "hard": 1024}],
        },
        "network": {
            "overlay_ipv6": "fd00::2", "gateway_ipv6": "fe80::1", "prefix_len": 128, "mtu": 1420,
            "dns": ["fd00::53"], "hostname": "bench",
        },
        "mounts": [{"kind": "volume", "name": "data", "device": "/dev/vdc", "mountpoint": "/data", "mode": "rw"}],
        "secrets": {"required": true, "data": "# TRC_SECRETS_V1\nTOKEN=x\n"},
        "exec": {"enabled": true}, "output": {"vsock_port": OUTPUT_PORT},
    }))?)
}

/// Is the guest's host up to ready, and gives the stages.
fn converse(mut stream: UnixStream) -> anyhow::Result<Vec<StageTiming>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut session, mut buffer) = (HostSession::default(), [0; 16 * 1024]);
    loop {
        while let Some(event) = session.next_event()? {
            match event {
                HostEvent::Hello(_) => stream.write_all(&session.config(&config()?)?)?,
                HostEvent::Acked { .. } | HostEvent::ConfigApplied => {}
                HostEvent::Ready { stages, .. } => return Ok(stages),
                HostEvent::Failed { failure, .. } => {
                    bail!("the boot failed in stage {}: {}", failure.stage, failure.detail)
                }
                HostEvent::Exited(exit) => bail!("the workload ended: {exit:?}"),
            }
        }
        let length = stream.read(&mut buffer).context("the guest stopped speaking")?;
        if length == 0 {
            bail!("the guest closed the connection");
        }
        session.push(buffer.get(..length).unwrap_or_default());
    }
}
