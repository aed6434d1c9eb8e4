//! TAP devices: made before a VM, deleted after it. Addresses and routes are set elsewhere.
//!
//! A device made here is persistent: it outlives the descriptor that made it, and the VMM opens it by name. The
//! unsafe code here is three `ioctl` calls.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;

const TUN_DEVICE: &str = "/dev/net/tun";
/// `IFNAMSIZ` without its terminating zero.
const NAME_BYTES_MAX: usize = 15;
const CAP_NET_ADMIN: u32 = 12;

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// What this host allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapSupport {
    /// TAP devices can be made.
    Available,
    /// There is no `/dev/net/tun`: the kernel's `tun` driver is missing.
    NoDevice,
    /// This process has no right to make one: it needs `CAP_NET_ADMIN` and access to `/dev/net/tun`.
    NotPermitted,
}

impl TapSupport {
    /// Judges from the error of opening `/dev/net/tun` read-write, if any, and the text of `/proc/self/status`.
    pub fn judge(open_error: Option<io::ErrorKind>, process_status: &str) -> TapSupport {
        match open_error {
            Some(io::ErrorKind::PermissionDenied) => TapSupport::NotPermitted,
            Some(_) => TapSupport::NoDevice,
            None if has_net_admin(process_status) => TapSupport::Available,
            None => TapSupport::NotPermitted,
        }
    }

    /// Judges this process on this host.
    pub fn detect() -> TapSupport {
        let open_error = OpenOptions::new()
            .read(true)
            .write(true)
            .open(TUN_DEVICE)
            .err()
            .map(|error| error.kind());
        let process_status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        TapSupport::judge(open_error, &process_status)
    }
}

fn has_net_admin(process_status: &str) -> bool {
    process_status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|capabilities| capabilities >> CAP_NET_ADMIN & 1 == 1)
}

/// A text is no name of a network interface.
#[derive(Debug, thiserror::Error)]
#[error("interface name {name:?} is not 1 to {NAME_BYTES_MAX} ASCII letters, digits, '-', '_' or '.'")]
pub struct InterfaceNameError {
    name: String,
}

/// Checks the name of a network interface: what the kernel takes, without what scripts and options stumble over.
pub fn check_interface_name(name: &str) -> Result<(), InterfaceNameError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let starts_well = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts_well && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain) {
        Ok(())
    } else {
        Err(InterfaceNameError {
            name: name.to_owned(),
        })
    }
}

/// A TAP device was not made or not deleted.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// Not a name.
    #[error("tap device has no valid name")]
    Name(#[from] InterfaceNameError),
    /// No `tun` driver.
    #[error("/dev/net/tun is missing, no tap device {name}: load the kernel module tun")]
    NoDevice {
        /// The device.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No right to.
    #[error(
        "not permitted to configure tap device {name}: it needs CAP_NET_ADMIN and access to /dev/net/tun"
    )]
    NotPermitted {
        /// The device.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program holds the device.
    #[error("tap device {name} is in use")]
    Busy {
        /// The device.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Anything else, such as an interface of another kind with this name.
    #[error("can't configure tap device {name}")]
    Other {
        /// The device.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl TapError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            TapError::Name(_) => "tap_name_invalid",
            TapError::NoDevice { .. } => "tap_no_device",
            TapError::NotPermitted { .. } => "tap_not_permitted",
            TapError::Busy { .. } => "tap_busy",
            TapError::Other { .. } => "tap_failed",
        }
    }

    fn new(name: &str, source: io::Error) -> TapError {
        let name = name.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => TapError::NotPermitted { name, source },
            io::ErrorKind::ResourceBusy => TapError::Busy { name, source },
            _ => TapError::Other { name, source },
        }
    }
}

/// Makes a persistent TAP device. One that exists already and is free is taken as it is.
pub fn create(name: &str) -> Result<(), TapError> {
    let tun = attach(name)?;
    set_persistent(&tun, Persistence::Kept).map_err(|errno| TapError::new(name, errno.into()))
}

/// Deletes a TAP device. One that does not exist is as good as deleted.
pub fn delete(name: &str) -> Result<(), TapError> {
    // Without its persistence the device goes away with the descriptor.
    let tun = attach(name)?;
    set_persistent(&tun, Persistence::Dropped).map_err(|errno| TapError::new(name, errno.into()))
}

/// Lets a user attach to a TAP device without any capability, as a jailed VMM has to.
pub(crate) fn give(name: &str, uid: u32) -> Result<(), TapError> {
    let tun = attach(name)?;
    set_owner(&tun, uid).map_err(|errno| TapError::new(name, errno.into()))
}

/// Whether a TUN or TAP device of this name exists.
pub fn exists(name: &str) -> bool {
    check_interface_name(name).is_ok() && Path::new("/sys/class/net").join(name).join("tun_flags").exists()
}

fn attach(name: &str) -> Result<File, TapError> {
    check_interface_name(name)?;
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open(TUN_DEVICE)
        .map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => TapError::new(name, source),
            _ => TapError::NoDevice {
                name: name.to_owned(),
                source,
            },
        })?;
    let request = InterfaceRequest::new(name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    set_interface(&tun, request).map_err(|errno| TapError::new(name, errno.into()))?;
    Ok(tun)
}

/// `struct ifreq` as `TUNSETIFF` reads it: the name, then a union whose first member is the flags.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES_MAX + 1],
    flags: u16,
    rest_of_union: [u8; 22],
}

impl InterfaceRequest {
    fn new(name: &str, flags: u16) -> InterfaceRequest {
        let mut bytes = [0; NAME_BYTES_MAX + 1];
        // The name was checked to be shorter than the array, so a zero terminates it.
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        InterfaceRequest {
            name: bytes,
            flags,
            rest_of_union: [0; 22],
        }
    }
}

enum Persistence {
    Kept,
    Dropped,
}

use unsafe_ioctl::{set_interface, set_owner, set_persistent};

#[allow(
    unsafe_code,
    reason = "TUNSETIFF, TUNSETPERSIST and TUNSETOWNER have no safe wrapper"
)]
mod unsafe_ioctl {
    use super::{AsFd, Errno, File, InterfaceRequest, Persistence};
    use rustix::ioctl::{IntegerSetter, Setter, ioctl};

    /// `_IOW('T', 202, int)` in `linux/if_tun.h`.
    const TUNSETIFF: u32 = 0x4004_54ca;
    /// `_IOW('T', 203, int)` in `linux/if_tun.h`.
    const TUNSETPERSIST: u32 = 0x4004_54cb;
    /// `_IOW('T', 204, int)` in `linux/if_tun.h`.
    const TUNSETOWNER: u32 = 0x4004_54cc;

    pub fn set_interface(tun: &File, request: InterfaceRequest) -> Result<(), Errno> {
        // SAFETY: TUNSETIFF reads one `struct ifreq` of 40 bytes, which `InterfaceRequest` lays out, and writes at
        // most that back; the request lives on this stack frame until the call has returned.
        unsafe { ioctl(tun.as_fd(), Setter::<TUNSETIFF, InterfaceRequest>::new(request)) }
    }

    pub fn set_persistent(tun: &File, persistence: Persistence) -> Result<(), Errno> {
        let value = match persistence {
            Persistence::Kept => 1,
            Persistence::Dropped => 0,
        };
        // SAFETY: TUNSETPERSIST takes its argument as a number, no memory is read or written.
        unsafe { ioctl(tun.as_fd(), IntegerSetter::<TUNSETPERSIST>::new_usize(value)) }
    }

    pub fn set_owner(tun: &File, uid: u32) -> Result<(), Errno> {
        let value = usize::try_from(uid).map_err(|_| Errno::INVAL)?;
        // SAFETY: TUNSETOWNER takes its argument as a number, no memory is read or written.
        unsafe { ioctl(tun.as_fd(), IntegerSetter::<TUNSETOWNER>::new_usize(value)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_1_to_15_plain_bytes() {
        for good in ["tap0", "a", "plfm-0123456789", "tap_a.1"] {
            assert!(check_interface_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "-x",
            "plfm-01234567890",
            "a b",
            "a/b",
            "a,b",
            "a:b",
            "a%d",
            "täp",
            "a\n",
        ] {
            assert!(check_interface_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_request_is_laid_out_as_the_kernel_reads_it() {
        assert_eq!(size_of::<InterfaceRequest>(), 40);
        assert_eq!(std::mem::offset_of!(InterfaceRequest, flags), 16);
        assert_eq!(&InterfaceRequest::new("tap0", 1).name[..6], b"tap0\0\0");
    }

    #[test]
    fn support_is_judged_from_the_device_and_the_capability() {
        let all = "Name:\tx\nCapEff:\t000001fffeffffff\n";
        let none = "CapEff:\t0000000000000000\n";
        let only_net_admin = "CapEff:\t0000000000001000\n";
        assert_eq!(TapSupport::judge(None, all), TapSupport::Available);
        assert_eq!(TapSupport::judge(None, only_net_admin), TapSupport::Available);
        assert_eq!(TapSupport::judge(None, none), TapSupport::NotPermitted);
        assert_eq!(TapSupport::judge(None, ""), TapSupport::NotPermitted);
        assert_eq!(
            TapSupport::judge(Some(io::ErrorKind::PermissionDenied), all),
            TapSupport::NotPermitted
        );
        assert_eq!(
            TapSupport::judge(Some(io::ErrorKind::NotFound), all),
            TapSupport::NoDevice
        );
    }

    #[test]
    fn errors_tell_the_cases_apart() {
        let code = |errno: Errno| TapError::new("t", errno.into()).code();
        assert_eq!(code(Errno::PERM), "tap_not_permitted");
        assert_eq!(code(Errno::ACCESS), "tap_not_permitted");
        assert_eq!(code(Errno::BUSY), "tap_busy");
        assert_eq!(code(Errno::INVAL), "tap_failed");
    }
}
