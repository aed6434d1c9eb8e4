//! Real software as images: made of Debian's packages, not installed, with umoci, below the target directory.
//!
//! ```text
//! target/software/
//!   packages/<name>_<version>_<arch>.deb
//!   <recipe>-<digest of the recipe>/    an OCI layout with the image `latest`, and the list of its packages
//!   <recipe> -> the above               what PLFM_SOFTWARE's readers open
//! ```

mod recipes;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use plfm_release::Sha256Digest;

use crate::lab::target_dir;
use crate::setup::apt_get;
use crate::shell::{find, run_quietly, step};

/// What an image is made of.
#[derive(Debug)]
struct Recipe {
    name: &'static str,
    /// The libraries, which are a layer of their own.
    libraries: &'static [&'static str],
    packages: &'static [&'static str],
    /// Directories with their owner, files with their mode and content; all below the root.
    directories: &'static [(&'static str, u32)],
    files: &'static [(&'static str, u32, &'static str)],
    /// Paths that are left out: nobody reads them in a microVM.
    left_out: &'static [&'static str],
    /// Options of `umoci config`.
    config: &'static [&'static str],
}

/// Makes the images that are not there, and gives the directory of all.
pub fn ensure() -> anyhow::Result<PathBuf> {
    let dir = target_dir().join("software");
    std::fs::create_dir_all(dir.join("packages"))?;
    for recipe in recipes::ALL {
        recipe.ensure(&dir)?;
    }
    Ok(dir)
}

/// Makes an OCI layout with one image, `latest`, whose layers are these trees.
pub fn make_image(layout: &Path, layers: &[&Path], config: &[&str]) -> anyhow::Result<()> {
    let _ = std::fs::remove_dir_all(layout);
    let umoci = || Command::new("umoci");
    let image = format!("{}:latest", layout.display());
    run_quietly(umoci().arg("init").arg("--layout").arg(layout))?;
    run_quietly(umoci().args(["new", "--image", &image]))?;
    for layer in layers {
        // As root, whose files they are; anybody else is taken for root.
        let rootless = (!crate::setup::is_root()).then_some("--rootless");
        let insert = ["insert", "--image", &image, "--history.created", EPOCH];
        run_quietly(umoci().args(insert).args(rootless).arg(layer).arg("/"))?;
    }
    let options = [
        "config",
        "--image",
        &image,
        "--created",
        EPOCH,
        "--history.created",
        EPOCH,
    ];
    run_quietly(umoci().args(options).args(config))
}

/// How images are made of recipes: another number when that changes.
const MAKER: u32 = 1;
/// Nothing that is made is newer than this.
const EPOCH: &str = "2026-01-01T00:00:00Z";

impl Recipe {
    fn digest(&self) -> String {
        let digest = Sha256Digest::of(format!("{MAKER}{self:?}").as_bytes()).to_string();
        digest.chars().take(16).collect()
    }

    fn ensure(&self, dir: &Path) -> anyhow::Result<()> {
        let name = format!("{}-{}", self.name, self.digest());
        let (layout, link) = (dir.join(&name), dir.join(self.name));
        if !layout.join("packages").exists() {
            step(&format!(
                "making an image of {} from Debian's packages",
                self.name
            ));
            self.make(dir, &layout)
                .with_context(|| format!("cannot make the image {}", self.name))?;
        }
        if std::fs::read_link(&link).is_ok_and(|target| target == Path::new(&name)) {
            return Ok(());
        }
        let _ = std::fs::remove_file(&link);
        Ok(std::os::unix::fs::symlink(name, link)?)
    }

    fn make(&self, dir: &Path, layout: &Path) -> anyhow::Result<()> {
        let work = tempfile::tempdir_in(dir)?;
        let (libraries, program) = (work.path().join("libraries"), work.path().join("program"));
        let mut used = unpack(dir, self.libraries, &libraries)?;
        used.extend(unpack(dir, self.packages, &program)?);
        for tree in [&libraries, &program] {
            for path in self.left_out {
                let _ = std::fs::remove_dir_all(tree.join(path));
            }
        }
        self.add(&program)?;
        let unfinished = work.path().join("layout");
        make_image(&unfinished, &[&libraries, &program], self.config)?;
        std::fs::write(unfinished.join("packages"), used.join("\n") + "\n")?;
        let _ = std::fs::remove_dir_all(layout);
        Ok(std::fs::rename(unfinished, layout)?)
    }

    /// What no package has: directories, configuration, a shell.
    fn add(&self, tree: &Path) -> anyhow::Result<()> {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        for (path, owner) in self.directories {
            let path = tree.join(path);
            std::fs::create_dir_all(&path)?;
            if crate::setup::is_root() {
                chown(&path, Some(*owner), Some(*owner))?;
            }
        }
        for (path, mode, content) in self.files {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(tree))?;
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, content)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode))?;
        }
        let busybox = find("busybox").context("busybox is not installed")?;
        std::fs::copy(busybox, tree.join("usr/bin/busybox"))?;
        Ok(std::os::unix::fs::symlink("busybox", tree.join("usr/bin/sh"))?)
    }
}

/// Unpacks packages into a tree whose `/bin`, `/sbin` and `/lib` lead into `/usr`, as Debian has it; gives their files'
/// names.
fn unpack(dir: &Path, packages: &[&str], tree: &Path) -> anyhow::Result<Vec<String>> {
    for (name, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        std::fs::create_dir_all(tree.join(target))?;
        std::os::unix::fs::symlink(target, tree.join(name))?;
    }
    let mut files = Vec::new();
    for package in packages {
        let file = download(&dir.join("packages"), package)?;
        // tar by hand: dpkg would put a directory where the link is.
        let pipe = r#"dpkg-deb --fsys-tarfile "$0" | tar --keep-directory-symlink -x -f - -C "$1""#;
        run_quietly(
            Command::new("bash")
                .args(["-o", "pipefail", "-c", pipe])
                .arg(&file)
                .arg(tree),
        )?;
        files.push(
            file.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        );
    }
    Ok(files)
}

/// The file of a package, fetched if it is not there.
fn download(dir: &Path, package: &str) -> anyhow::Result<PathBuf> {
    let there = || -> anyhow::Result<Option<PathBuf>> {
        let prefix = format!("{package}_");
        let mut paths = std::fs::read_dir(dir)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        Ok(paths.find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".deb")
        }))
    };
    if let Some(file) = there()? {
        return Ok(file);
    }
    let get = || {
        run_quietly(
            Command::new("apt-get")
                .args(["download", "-q", package])
                .current_dir(dir),
        )
    };
    if get().is_err() {
        // The lists name a version that is there no more, or there are none.
        run_quietly(&mut apt_get(&["update", "-q"]))?;
        get()?;
    }
    match there()? {
        Some(file) => Ok(file),
        None => bail!("apt-get downloaded nothing for {package}"),
    }
}
