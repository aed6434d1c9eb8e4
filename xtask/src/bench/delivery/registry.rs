//! A registry with two releases: the lab's, and one whose kernel is as large as artifacts get.

use std::path::{Path, PathBuf};

use plfm_release::{Sha256Digest, SigningKey, sign};
use serde_json::{Value, json};

use crate::lab::{self, Lab};
use crate::shell::{run_quietly, step};

/// Size of the large kernel, in bytes; the limit of an artifact is 256 MiB.
const LARGE_BYTES: u64 = 200 << 20;
const LARGE_BUILD_ID: &str = "20260103c";

/// A release that the registry offers.
pub struct Offer {
    /// How tables name it.
    pub name: &'static str,
    /// What `plfm release fetch` is asked for.
    pub build_id: &'static str,
    /// Manifest, kernel and initramfs together.
    pub bytes: u64,
}

/// The registry's directory, and what it offers.
pub struct Registry {
    pub dir: PathBuf,
    /// What hosts trust it by.
    pub root: PathBuf,
    pub release: Offer,
    pub large: Offer,
}

impl Registry {
    /// Makes it below `scratch`.
    pub fn make(lab: &Lab, scratch: &Path) -> anyhow::Result<Self> {
        step("making a registry");
        let (dir, keys) = (scratch.join("registry"), scratch.join("keys"));
        run_quietly(
            lab.plfm()
                .args(["registry", "init", "--registry"])
                .arg(&dir)
                .arg("--keys")
                .arg(&keys)
                .arg("--root-keys")
                .arg(scratch.join("root-keys"))
                .arg("--keyring")
                .arg(lab.keyring()),
        )?;
        let publish = |release: &Path| {
            run_quietly(
                lab.plfm()
                    .args(["release", "publish"])
                    .arg(release)
                    .arg("--to")
                    .arg(&dir)
                    .arg("--keys")
                    .arg(&keys),
            )
        };
        let large = make_large(lab, &scratch.join("large"))?;
        publish(&lab.release())?;
        publish(&large)?;
        Ok(Self {
            release: Offer {
                name: "release",
                build_id: "20260101a",
                bytes: size_of(&lab.release())?,
            },
            large: Offer {
                name: "a kernel of 200 MiB",
                build_id: LARGE_BUILD_ID,
                bytes: size_of(&large)?,
            },
            root: keys.join("root.json"),
            dir,
        })
    }
}

/// The lab's release with zeros after its kernel, signed by the lab's key.
fn make_large(lab: &Lab, dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir(dir)?;
    let release = lab.release();
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(release.join("manifest.json"))?)?;
    let version = |part: &str, key: &str| manifest[part][key].as_str().unwrap_or_default().to_owned();
    let initramfs = format!(
        "initramfs-plfm-guestinit-{}-{LARGE_BUILD_ID}.img",
        version("initramfs", "guest_init_version")
    );
    let kernel = format!("vmlinuz-plfm-{}-{LARGE_BUILD_ID}", version("kernel", "version"));
    let kernel = dir.join(kernel);
    std::fs::copy(lab::artifact(&release, "initramfs-")?, dir.join(initramfs))?;
    std::fs::copy(lab::artifact(&release, "vmlinuz-")?, &kernel)?;
    let bytes = {
        let file = std::fs::File::options().write(true).open(&kernel)?;
        file.set_len(LARGE_BYTES)?;
        std::fs::read(&kernel)?
    };
    manifest["kernel"]["build_id"] = json!(LARGE_BUILD_ID);
    manifest["initramfs"]["build_id"] = json!(LARGE_BUILD_ID);
    manifest["kernel"]["size_bytes"] = json!(bytes.len());
    manifest["kernel"]["sha256"] = json!(Sha256Digest::of(&bytes).to_string());
    let key = SigningKey::from_pem(&std::fs::read_to_string(lab.dir.join("keys/lab.key"))?)?;
    let signed = sign(manifest, &key)?;
    std::fs::write(
        dir.join("manifest.json"),
        serde_json::to_string_pretty(&signed)? + "\n",
    )?;
    Ok(dir.to_owned())
}

fn size_of(release: &Path) -> anyhow::Result<u64> {
    let files = [
        release.join("manifest.json"),
        lab::artifact(release, "vmlinuz-")?,
        lab::artifact(release, "initramfs-")?,
    ];
    files.iter().map(|file| Ok(std::fs::metadata(file)?.len())).sum()
}
