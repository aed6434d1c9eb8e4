//! What is wrong with a request, before anything is made for it.

use plfm_api::CreateInstance;

use crate::problem::{ApiError, chain};

/// Volumes of one instance, at most: the machine's slots, less those of root and scratch disk.
const VOLUMES_MAX: usize = 3;
/// Longest name of an instance, in bytes.
const NAME_MAX: usize = 63;
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 64..=65_536;
const SCRATCH_MIB: std::ops::RangeInclusive<u32> = 8..=1_048_576;

/// Checks what can be told from the request alone. Blocking.
pub fn check_request(request: &CreateInstance) -> Result<(), ApiError> {
    if let Some(name) = &request.name {
        check_name(name)?;
    }
    check_root(request)?;
    if let Some(scratch) = &request.scratch_disk {
        check_disk("scratch disk", scratch)?;
    }
    for volume in &request.volumes {
        check_disk(&format!("disk of volume {:?}", volume.name), &volume.disk)?;
    }
    if request.volumes.len() > VOLUMES_MAX {
        return Err(ApiError::invalid(
            "too_many_volumes",
            format!("an instance has at most {VOLUMES_MAX} volumes"),
        ));
    }
    if request.secrets.is_none() && (request.secrets_mode.is_some() || request.secrets_owner.is_some()) {
        return Err(ApiError::invalid(
            "instance_invalid",
            "secrets_mode and secrets_owner are of no use without secrets",
        ));
    }
    let resources = request.resources;
    if !MEMORY_MIB.contains(&resources.memory_mib) {
        let detail = format!(
            "memory of {} MiB is not {} to {}",
            resources.memory_mib,
            MEMORY_MIB.start(),
            MEMORY_MIB.end()
        );
        return Err(ApiError::invalid("memory_invalid", detail));
    }
    if !SCRATCH_MIB.contains(&request.scratch_mib) {
        let detail = format!(
            "a scratch disk of {} MiB is not {} to {}",
            request.scratch_mib,
            SCRATCH_MIB.start(),
            SCRATCH_MIB.end()
        );
        return Err(ApiError::invalid("scratch_invalid", detail));
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if resources.vcpus == 0 || usize::from(resources.vcpus) > cpus {
        return Err(ApiError::invalid(
            "vcpus_invalid",
            format!("{} processors is not 1 to {cpus}", resources.vcpus),
        ));
    }
    Ok(())
}

/// An instance has one root.
fn check_root(request: &CreateInstance) -> Result<(), ApiError> {
    match (&request.root_disk, &request.image) {
        (Some(disk), None) => check_disk("root disk", disk),
        (None, Some(_)) => Ok(()),
        (Some(_), Some(_)) | (None, None) => Err(ApiError::invalid(
            "root_invalid",
            "an instance has either a root disk or an image",
        )),
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let is_fit = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_fit) {
        Ok(())
    } else {
        let shown: String = name.chars().take(NAME_MAX).collect();
        Err(ApiError::invalid(
            "name_invalid",
            format!("the name {shown:?} is not 1 to {NAME_MAX} of a-z, 0-9, - and ."),
        ))
    }
}

fn check_disk(what: &str, path: &str) -> Result<(), ApiError> {
    use std::os::unix::fs::FileTypeExt as _;
    if !path.starts_with('/') {
        return Err(ApiError::invalid(
            "disk_invalid",
            format!("the {what} {path:?} is not an absolute path"),
        ));
    }
    let metadata = std::fs::metadata(path).map_err(|error| {
        ApiError::invalid(
            "disk_invalid",
            format!("cannot use the {what} {path}: {}", chain(&error)),
        )
    })?;
    let kind = metadata.file_type();
    if kind.is_file() && metadata.len() == 0 {
        return Err(ApiError::invalid(
            "disk_invalid",
            format!("the {what} {path} is empty"),
        ));
    }
    if kind.is_file() || kind.is_block_device() {
        Ok(())
    } else {
        Err(ApiError::invalid(
            "disk_invalid",
            format!("the {what} {path} is neither a file nor a block device"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "web-1.example", &"x".repeat(63)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "Web", "a_b", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(check_name(name).unwrap_err().code(), "name_invalid", "{name}");
        }
    }
}
