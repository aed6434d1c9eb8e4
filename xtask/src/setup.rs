//! What the other tasks need: Debian's packages, and the vsock daemon from the crate registry.

use std::process::Command;

use anyhow::bail;

use crate::shell::{self, cargo, is_installed, run_quietly, step};

/// A Debian package and a program or file of it that shows that it is there.
const PACKAGES: &[(&str, &str)] = &[
    // The kernel's build (Documentation/process/changes.rst).
    ("bc", "bc"),
    ("bison", "bison"),
    ("flex", "flex"),
    ("gcc", "gcc"),
    ("libc6-dev", "/usr/lib/x86_64-linux-gnu/libc.a"),
    ("make", "make"),
    ("xz-utils", "xz"),
    ("libelf-dev", "/usr/include/libelf.h"),
    ("libssl-dev", "/usr/include/openssl/ssl.h"),
    ("linux-source-6.1", "/usr/src/linux-source-6.1.tar.xz"),
    // Virtual machines and their disks.
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("e2fsprogs", "mke2fs"),
    ("erofs-utils", "mkfs.erofs"),
    ("squashfs-tools", "mksquashfs"),
    ("busybox-static", "busybox"),
    // The links that deliveries are measured over.
    ("iproute2", "tc"),
    // The control plane's other database.
    ("postgresql-15", "/usr/lib/postgresql/15/bin/initdb"),
    // Images as others make and carry them, and clients of the software in them.
    ("umoci", "umoci"),
    ("skopeo", "skopeo"),
    ("curl", "curl"),
    ("redis-tools", "redis-cli"),
    // What the tests check our work with.
    ("cpio", "cpio"),
    ("jq", "jq"),
    ("openssl", "openssl"),
    ("procps", "pgrep"),
    ("binutils", "readelf"),
    ("python3-venv", "/usr/lib/python3.11/ensurepip"),
    ("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
];

/// The tests make clusters of their own; the package must not start one.
const NO_CLUSTER: &str = "mkdir -p /etc/postgresql-common/createcluster.d && \
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/plfm.conf";

const VSOCK_DAEMON: &str = "vhost-device-vsock";
const VSOCK_DAEMON_VERSION: &str = "0.3.0";

fn install_packages() -> anyhow::Result<()> {
    let is_there = |probe: &str| {
        if probe.starts_with('/') {
            std::path::Path::new(probe).exists()
        } else {
            is_installed(probe)
        }
    };
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, probe)| !is_there(probe))
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if missing.contains(&"postgresql-15") {
        run_quietly(&mut as_root(&["sh", "-c", NO_CLUSTER]))?;
    }
    let list = missing.join(" ");
    step(&format!("installing Debian packages: {list}"));
    let installed = run_quietly(&mut apt_get(&["update", "-q"])).and_then(|()| {
        let mut args = vec!["install", "-q", "-y", "--no-install-recommends"];
        args.extend(&missing);
        run_quietly(&mut apt_get(&args))
    });
    if let Err(error) = installed {
        bail!("{error}\ninstall them yourself and run this again: sudo apt-get install {list}");
    }
    Ok(())
}

/// `apt-get`, as root.
pub fn apt_get(args: &[&str]) -> Command {
    let mut command = as_root(&[&["apt-get"], args].concat());
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// A command line, as root.
fn as_root(words: &[&str]) -> Command {
    let sudo: &[&str] = if is_root() { &[] } else { &["sudo", "-n"] };
    let mut words = sudo.iter().chain(words);
    let mut command = Command::new(words.next().copied().unwrap_or("false"));
    command.args(words);
    command
}

/// Installs what is missing.
pub fn ensure() -> anyhow::Result<()> {
    install_packages()?;
    if !is_installed(VSOCK_DAEMON) {
        step(&format!(
            "installing {VSOCK_DAEMON} {VSOCK_DAEMON_VERSION} (a minute or two)"
        ));
        shell::run(cargo().args([
            "install",
            "--quiet",
            "--locked",
            VSOCK_DAEMON,
            "--version",
            VSOCK_DAEMON_VERSION,
        ]))?;
    }
    Ok(())
}

/// `cargo xtask setup`.
pub fn run() -> anyhow::Result<()> {
    ensure()?;
    step("everything is installed");
    Ok(())
}

/// Whether this runs as root.
pub fn is_root() -> bool {
    // The owner of our own /proc entry is whom we run as.
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
