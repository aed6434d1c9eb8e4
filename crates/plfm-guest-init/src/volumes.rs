//! The customer's volumes: ext4, mounted without following a link, parents before children.

use plfm_guest_protocol::{MountMode, Reason, VolumeMount};
use rustix::mount::MountAttrFlags;

use crate::failure::StageError;
use crate::fs::{Replace, create_dir, open_dir};
use crate::mount::{attach, make};
use crate::root::mount_error;

/// A volume that is mounted, and where: for the unmount, last first.
pub struct MountedVolume {
    pub name: String,
    pub mountpoint: String,
}

/// Mounts all volumes. What was mounted before a failure is in `mounted` too.
pub fn mount_all(mounts: &[VolumeMount], mounted: &mut Vec<MountedVolume>) -> Result<(), StageError> {
    let mut mounts: Vec<&VolumeMount> = mounts.iter().collect();
    mounts.sort_by(|a, b| a.mountpoint.split('/').cmp(b.mountpoint.split('/')));
    for mount in mounts {
        mount_one(mount)?;
        mounted.push(MountedVolume {
            name: mount.name.clone(),
            mountpoint: mount.mountpoint.clone(),
        });
    }
    Ok(())
}

fn mount_one(volume: &VolumeMount) -> Result<(), StageError> {
    let VolumeMount {
        name,
        device,
        mountpoint,
        fs_type,
        ..
    } = volume;
    let mut options: &[(&str, Option<&str>)] = &[];
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_NODEV;
    if volume.mode == MountMode::Ro {
        options = &[("ro", None)];
        flags |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let what = || format!("cannot mount volume {name:?} ({device}) at {mountpoint}");
    let made = make(fs_type, device, options, flags)
        .map_err(|error| mount_error(Reason::MountFailed, what(), &error))?;
    open_dir("/")
        .and_then(|root| create_dir(root, mountpoint, Replace::Forbidden))
        .and_then(|target| attach(&made, &target))
        .map_err(|errno| StageError::os(Reason::MountFailed, what(), errno))
}
