//! What `cargo xtask test` made: programs, releases, a key, a root disk.

use std::path::PathBuf;

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

pub fn is_there() -> bool {
    variable("PLFM_LAB").is_some() && variable("PLFM_BIN").is_some()
}

pub fn dir() -> PathBuf {
    variable("PLFM_LAB").expect("PLFM_LAB")
}

pub fn program(name: &str) -> PathBuf {
    variable("PLFM_BIN").expect("PLFM_BIN").join(name)
}

pub fn keyring() -> PathBuf {
    dir().join("keys/lab.keyring.json")
}

pub fn key() -> PathBuf {
    dir().join("keys/lab.key")
}

pub fn release() -> PathBuf {
    dir().join("release")
}

pub fn release_b() -> PathBuf {
    dir().join("release-b")
}

/// The key's file of the releases that fail on purpose, whose channel is `lab`.
pub fn faulty_key() -> PathBuf {
    dir().join("keys/faulty.key")
}

pub fn faulty_keyring() -> PathBuf {
    dir().join("keys/faulty.keyring.json")
}

/// The release whose guest init has this fault.
pub fn faulty(fault: &str) -> PathBuf {
    dir().join("faulty").join(fault)
}

pub fn root_disk() -> PathBuf {
    dir().join("root.erofs")
}

/// A plain web server: what `cargo xtask test` names, or the machine's own.
pub fn nginx() -> Option<PathBuf> {
    variable("PLFM_NGINX")
        .or_else(|| Some(PathBuf::from("/usr/sbin/nginx")))
        .filter(|path| path.exists())
}

/// A registry of images.
pub fn docker_registry() -> Option<PathBuf> {
    variable("PLFM_DOCKER_REGISTRY")
        .or_else(|| Some(PathBuf::from("/usr/bin/docker-registry")))
        .filter(|path| path.exists())
}

/// Images of real software, as `cargo xtask software` makes them.
pub fn software() -> Option<PathBuf> {
    variable("PLFM_SOFTWARE").filter(|path| path.exists())
}

/// What checks metrics.
pub fn promtool() -> Option<PathBuf> {
    variable("PLFM_PROMTOOL")
        .or_else(|| Some(PathBuf::from("/usr/bin/promtool")))
        .filter(|path| path.exists())
}

/// What collects metrics: in the package that promtool is from.
pub fn prometheus() -> Option<PathBuf> {
    Some(promtool()?.with_file_name("prometheus")).filter(|path| path.exists())
}

/// Whether we may do what root may.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The address of an S3 server with a bucket named `plfm` that everybody may read.
pub fn s3() -> Option<String> {
    std::env::var("PLFM_TEST_S3").ok()
}

/// Whether this machine lets us make network interfaces.
pub fn has_tap() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = capabilities
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    // CAP_NET_ADMIN is 12.
    let opens = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .is_ok();
    bits >> 12 & 1 == 1 && opens
}
