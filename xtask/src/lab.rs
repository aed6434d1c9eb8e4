//! The lab: a signed release and a customer's root disk, which demo, tests and benchmarks boot.
//!
//! ```text
//! target/lab/
//!   keys/lab.key, lab.pub.pem, lab.keyring.json
//!   release/        kernel + initramfs, for channel production
//!   release-b/      the same kernel, another initramfs (with busybox and CA bundle) and build id
//!   keys/faulty.…   signs for channel lab, and for no other
//!   faulty/         for channel lab: the same kernel, guest inits that fail on purpose; one for each fault
//!   rootfs/         a userland: Debian's busybox
//!   root.erofs
//!   image/          the same userland as a customer's image, an OCI layout
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::shell::{cargo, find, read, root, run, run_quietly, step};
use crate::software;

/// Applets that the userland has links for.
const APPLETS: &[&str] = &[
    "[",
    "awk",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dmesg",
    "echo",
    "env",
    "false",
    "find",
    "free",
    "grep",
    "head",
    "hostname",
    "httpd",
    "id",
    "ip",
    "kill",
    "ls",
    "mkdir",
    "mount",
    "mv",
    "nc",
    "nproc",
    "ping",
    "ps",
    "readlink",
    "rm",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "stty",
    "sync",
    "tail",
    "test",
    "touch",
    "tr",
    "true",
    "tty",
    "umount",
    "uname",
    "uptime",
    "wc",
    "wget",
    "which",
    "xargs",
    "yes",
];

/// Where everything is.
pub struct Lab {
    pub dir: PathBuf,
    pub bin: PathBuf,
}

impl Lab {
    pub fn keyring(&self) -> PathBuf {
        self.dir.join("keys/lab.keyring.json")
    }

    pub fn release(&self) -> PathBuf {
        self.dir.join("release")
    }

    pub fn root_disk(&self) -> PathBuf {
        self.dir.join("root.erofs")
    }

    /// The image, as the command line names it.
    pub fn image(&self) -> String {
        format!("oci:{}:latest", self.dir.join("image").display())
    }

    /// `plfm`, which was built from this checkout.
    pub fn plfm(&self) -> Command {
        Command::new(self.bin.join("plfm"))
    }
}

/// The artifact in a release's directory whose name begins with `prefix`.
pub fn artifact(release: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let mut paths = std::fs::read_dir(release)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let found = paths.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(prefix) && !name.ends_with(".sha256")
    });
    found.with_context(|| format!("no {prefix}… in {}", release.display()))
}

/// Compiles the programs.
pub fn build_programs() -> anyhow::Result<PathBuf> {
    step("compiling plfm, plfm-agent and plfm-control");
    run(cargo().args([
        "build",
        "--quiet",
        "--locked",
        "-p",
        "plfm",
        "-p",
        "plfm-agent",
        "-p",
        "plfm-control",
    ]))?;
    Ok(target_dir().join("debug"))
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Whether what was built is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Show {
    Releases,
    Nothing,
}

/// Makes the lab.
pub fn ensure(show: Show) -> anyhow::Result<Lab> {
    ensure_with(build_programs()?, show)
}

/// Makes the lab with the programs in `bin`.
pub fn ensure_with(bin: PathBuf, show: Show) -> anyhow::Result<Lab> {
    let lab = Lab {
        dir: target_dir().join("lab"),
        bin,
    };
    std::fs::create_dir_all(&lab.dir).with_context(|| format!("cannot make {}", lab.dir.display()))?;
    make_key(&lab, &GOOD)?;
    build_release(&lab, show, &GOOD, "release", &["--build-id", "20260101a"])?;
    build_release(
        &lab,
        show,
        &GOOD,
        "release-b",
        &["--build-id", "20260102b", "--with-busybox", "--with-ca-bundle"],
    )?;
    make_root_disk(&lab)?;
    make_image(&lab)?;
    Ok(lab)
}

/// Who signs what for whom.
pub struct Signer {
    key: &'static str,
    channel: &'static str,
}

/// Of what is good.
pub const GOOD: Signer = Signer {
    key: "lab",
    channel: "production",
};
/// Of what fails on purpose.
const FAULTY: Signer = Signer {
    key: "faulty",
    channel: "lab",
};
/// The faults, each with the build id of its release.
const FAULTS: [(&str, &str); 4] = [
    ("hang", "20260103h"),
    ("kernel-panic", "20260103p"),
    ("network", "20260103n"),
    ("slow", "20260103s"),
];

/// Makes the lab's faulty releases.
pub fn ensure_faulty(lab: &Lab) -> anyhow::Result<()> {
    make_key(lab, &FAULTY)?;
    std::fs::create_dir_all(lab.dir.join("faulty"))?;
    for (fault, build_id) in FAULTS {
        let args = ["--fault", fault, "--build-id", build_id];
        build_release(lab, Show::Nothing, &FAULTY, &format!("faulty/{fault}"), &args)?;
    }
    Ok(())
}

/// A key of the lab is for the lab alone: it is made once and never leaves the target directory.
pub fn make_key(lab: &Lab, signer: &Signer) -> anyhow::Result<()> {
    let keys = lab.dir.join("keys");
    if keys.join(format!("{}.keyring.json", signer.key)).exists() {
        return Ok(());
    }
    step("making a signing key");
    std::fs::create_dir_all(&keys)?;
    run_quietly(
        lab.plfm()
            .args([
                "release",
                "keys",
                "generate",
                "--name",
                signer.key,
                "--channel",
                signer.channel,
            ])
            .arg("--out")
            .arg(&keys),
    )
}

fn build_release(lab: &Lab, show: Show, signer: &Signer, name: &str, args: &[&str]) -> anyhow::Result<()> {
    step(&format!(
        "building and signing {name} (the kernel takes some minutes the first time)"
    ));
    let (out, key) = (
        lab.dir.join(name),
        lab.dir.join(format!("keys/{}.key", signer.key)),
    );
    let mut command = lab.plfm();
    command
        .current_dir(root())
        .args(["release", "build", "--channel", signer.channel, "--force"]);
    if show == Show::Nothing {
        command.stdout(Stdio::null());
    }
    run(command.arg("--key").arg(key).arg("--out").arg(out).args(args))
}

/// A userland that is real and small: Debian's static busybox.
pub fn make_userland(dir: &Path) -> anyhow::Result<()> {
    let busybox = find("busybox").context("busybox is not installed")?;
    if !read(Command::new("readelf").arg("-l").arg(&busybox)).is_ok_and(|headers| !headers.contains("INTERP"))
    {
        bail!(
            "{} is not static: install the Debian package busybox-static",
            busybox.display()
        );
    }
    let _ = std::fs::remove_dir_all(dir);
    for name in ["bin", "etc", "home/app", "srv/www", "tmp", "root"] {
        std::fs::create_dir_all(dir.join(name))?;
    }
    std::fs::copy(busybox, dir.join("bin/busybox"))?;
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", dir.join("bin").join(applet))?;
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n";
    std::fs::write(dir.join("etc/passwd"), passwd)?;
    std::fs::write(dir.join("etc/group"), "root:x:0:\napp:x:1000:\nvideo:x:44:app\n")?;
    Ok(())
}

fn make_root_disk(lab: &Lab) -> anyhow::Result<()> {
    let disk = lab.root_disk();
    if disk.exists() {
        return Ok(());
    }
    step("making a root disk from Debian's busybox");
    let userland = lab.dir.join("rootfs");
    make_userland(&userland)?;
    let image = disk.with_extension("new");
    run_quietly(
        Command::new(find("mkfs.erofs").context("mkfs.erofs is not installed")?)
            .args(["-T0", "--all-root", "--quiet"])
            .arg(&image)
            .arg(&userland),
    )?;
    std::fs::rename(image, disk)?;
    Ok(())
}

fn make_image(lab: &Lab) -> anyhow::Result<()> {
    let image = lab.dir.join("image");
    if image.exists() {
        return Ok(());
    }
    step("making an image from Debian's busybox");
    let unfinished = lab.dir.join("image.new");
    let userland = lab.dir.join("image-rootfs");
    make_userland(&userland)?;
    let config = ["--config.cmd=/bin/sh", "--config.env=PATH=/bin"];
    software::make_image(&unfinished, &[&userland], &config)?;
    std::fs::remove_dir_all(userland)?;
    Ok(std::fs::rename(unfinished, image)?)
}
