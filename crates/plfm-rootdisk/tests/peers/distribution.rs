//! Images on the roads that they really take: through docker's own registry, and as skopeo's archives.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::{Failed, Trial};
use plfm_rootdisk::registry::{Credentials, Puller, RegistryOptions};
use plfm_rootdisk::{DiskFormat, Image, Limits, Store};

use crate::corpus::{Case, cases};
use crate::erofs_reader::of_disk;
use crate::facts::differences;
use crate::images::{Packed, layout};
use crate::lab::{build, build_image, has, none_of, run, trial};

pub fn trials() -> Vec<Trial> {
    let can_copy = has("skopeo");
    let can_serve = can_copy && has(&registry());
    vec![
        trial(
            "skopeo's docker and oci archives hold the same".to_owned(),
            can_copy,
            archives,
        ),
        trial(
            "an image pulled from docker-registry is the layout's".to_owned(),
            can_serve,
            pulled,
        ),
    ]
}

/// What `cargo xtask test` names, or the machine's own.
fn registry() -> String {
    std::env::var("PLFM_DOCKER_REGISTRY").unwrap_or_else(|_| "docker-registry".to_owned())
}

/// A layout of a case that has a bit of everything.
fn attributes(directory: &Path) -> PathBuf {
    let path = directory.join("layout");
    let is_wanted = |case: &Case| case.name == "extended attributes and capabilities";
    let layers = cases()
        .into_iter()
        .find(is_wanted)
        .expect("the case is missing")
        .layers;
    layout(&path, &layers, Packed::Gzip);
    path
}

fn copy(from: &str, to: &str) -> Result<(), Failed> {
    let mut command = Command::new("skopeo");
    run(command.args([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
        from,
        to,
    ]))
    .map(drop)
}

fn archives() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = attributes(directory.path());
    let ours = of_disk(&build(directory.path(), &path, DiskFormat::Erofs)?.disk_path());
    for kind in ["docker-archive", "oci-archive"] {
        let archive = directory.path().join(kind);
        copy(
            &format!("oci:{}:t", path.display()),
            &format!("{kind}:{}:app:t", archive.display()),
        )?;
        let image = Image::from_archive(&archive, None, &Limits::default())?;
        let stored = build_image(directory.path(), &image, DiskFormat::Erofs)?;
        none_of(&differences(&ours, &of_disk(&stored.disk_path())))?;
    }
    Ok(())
}

/// Docker's registry on loopback; gone with the value.
struct Registry {
    child: Child,
    host: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    fn start(directory: &Path) -> Result<Self, Failed> {
        let config = directory.join("registry.yml");
        let storage = directory.join("registry");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            storage.display()
        );
        std::fs::write(&config, text)?;
        let mut child = Command::new(registry())
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take().ok_or("no log")?;
        let mut registry = Self {
            child,
            host: String::new(),
        };
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        while let Some(line) = lines.next() {
            if let Some((_, rest)) = line.split_once("listening on ") {
                registry.host = rest.split(['"', ' ']).next().unwrap_or_default().to_owned();
                // It ends when nobody reads its log, and its log ends with it.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(registry);
            }
        }
        Err("docker-registry does not listen".into())
    }
}

fn pulled() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = attributes(directory.path());
    let registry = Registry::start(directory.path())?;
    copy(
        &format!("oci:{}:t", path.display()),
        &format!("docker://{}/me/app:t", registry.host),
    )?;
    let store = Store::open(&directory.path().join("pulled"))?;
    let options = RegistryOptions {
        plaintext_registries: vec![registry.host.clone()],
        ..RegistryOptions::default()
    };
    let puller = Puller::new(&store, options, Limits::default())?;
    let reference = format!("{}/me/app:t", registry.host).parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let fetched = runtime.block_on(puller.fetch(&reference, &Credentials::Anonymous, &mut |_| {}))?;
    let stored = store.build(
        fetched.image(),
        DiskFormat::Erofs,
        &Limits::default(),
        &mut |_| {},
    )?;
    let local = build(directory.path(), &path, DiskFormat::Erofs)?;
    assert_eq!(
        (stored.key(), stored.disk_digest()),
        (local.key(), local.disk_digest())
    );
    Ok(())
}
