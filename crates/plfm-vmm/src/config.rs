//! What one VM is made of, checked before anything is started.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::tap::{self, InterfaceNameError, check_interface_name};
use crate::vsock::{SocketPathTooLong, VsockPath};

/// Console bytes kept on disk when the caller has no opinion: enough for any boot, too little to fill a disk.
pub const CONSOLE_BYTES_MAX_DEFAULT: u64 = 1024 * 1024;

/// Time to start when the caller has no opinion. An idle host needs 0.1 s; many VMs may start at once.
pub const START_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The least memory that a kernel of 20 MB and its initramfs boot in.
const MEMORY_MIB_MIN: u32 = 64;
/// A limit against typing errors.
const MEMORY_MIB_MAX: u32 = 1024 * 1024;
/// The kernel's own limit on x86 is 2048 bytes; the VMM adds up to 40 for each of its eight devices.
const CMDLINE_EXTRA_BYTES_MAX: usize = 1024;
/// The `microvm` machine without ACPI has eight virtio-mmio slots. Vsock, entropy and network use three of them.
const DISKS_MAX: usize = 5;
/// Firecracker's own limit.
const FIRECRACKER_VCPUS_MAX: u8 = 32;
/// The contract's bounds of an interface's MTU.
const MTU_MIN: u16 = 1280;
const MTU_MAX: u16 = 9000;

/// One VM.
#[derive(Debug)]
pub struct VmConfig {
    /// An existing directory for this VM alone, as an absolute and short path: it holds the VM's sockets, and
    /// whoever can enter it can speak as the VM. Make it with mode 0700. Its name is the jail's id where there is a
    /// jail: at most 64 letters, digits and hyphens, and no other VM's of this host, ever.
    pub dir: PathBuf,
    /// The kernel: an ELF `vmlinux` with a PVH note, or (QEMU, and Firecracker from 1.17) a bzImage.
    pub kernel: VmImage,
    /// The initramfs.
    pub initramfs: VmImage,
    /// Words added to the kernel's command line, `plfm.instance_id=…`.
    pub cmdline_extra: Vec<String>,
    /// The guest's memory.
    pub memory_mib: u32,
    /// The guest's processors.
    pub vcpus: u8,
    /// The disks, in order: the first is `vda` in the guest.
    pub disks: Vec<Disk>,
    /// The network interface, if any.
    pub tap: Option<TapConfig>,
    /// How many bytes of the console are kept in `console.log`.
    pub console_bytes_max: u64,
    /// How long [`crate::Vm::start`] may take.
    pub start_timeout: Duration,
}

/// A kernel or initramfs as an open file, so that what boots is the very inode that was verified.
#[derive(Debug)]
pub struct VmImage(File);

/// A raw disk image or block device.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Absolute path.
    pub path: PathBuf,
    /// What the guest may do with it.
    pub access: DiskAccess,
}

/// What the guest may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAccess {
    /// Read. The file is opened read-only and may be shared by any number of VMs.
    ReadOnly,
    /// Read and write. The file is locked: a second VM with it does not start.
    ReadWrite,
}

/// The host's end of the guest's `eth0`.
#[derive(Debug, Clone)]
pub struct TapConfig {
    /// An existing TAP device, see [`crate::tap::create`].
    pub name: String,
    /// The guest's hardware address.
    pub mac: MacAddress,
    /// The MTU that the device offers to the guest.
    pub mtu: u16,
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress([u8; 6]);

/// A VM's configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not absolute, not a directory, or a name that the programs can't take.
    #[error("vm directory {} is not an absolute path of a directory in plain text", path.display())]
    Dir {
        /// The directory.
        path: PathBuf,
    },
    /// The sockets would not fit.
    #[error("vm directory is too deep")]
    SocketPath(#[from] SocketPathTooLong),
    /// An added word is empty or has a space, a quote or a control character.
    #[error(
        "kernel command line word {word:?} is empty or has a space, a quote or a character outside ASCII"
    )]
    CmdlineWord {
        /// The word.
        word: String,
    },
    /// Too many bytes.
    #[error("added kernel command line has {bytes} bytes, the limit is {CMDLINE_EXTRA_BYTES_MAX}")]
    CmdlineTooLong {
        /// Bytes with separators.
        bytes: usize,
    },
    /// Memory out of range.
    #[error("memory of {mib} MiB is outside {MEMORY_MIB_MIN} to {MEMORY_MIB_MAX} MiB")]
    Memory {
        /// What was asked for.
        mib: u32,
    },
    /// No processor.
    #[error("a vm needs at least one processor")]
    Vcpus,
    /// More processors than Firecracker gives a guest.
    #[error("{vcpus} processors; firecracker gives a guest at most {FIRECRACKER_VCPUS_MAX}")]
    TooManyVcpus {
        /// What was asked for.
        vcpus: u8,
    },
    /// More disks than the machine has slots.
    #[error("{count} disks, the limit is {DISKS_MAX}")]
    TooManyDisks {
        /// How many there are.
        count: usize,
    },
    /// A relative disk path.
    #[error("disk path {} is not absolute", path.display())]
    DiskPath {
        /// The path.
        path: PathBuf,
    },
    /// Not an interface name.
    #[error("tap device has no valid name")]
    TapName(#[from] InterfaceNameError),
    /// QEMU would make a device of its own, without the addresses that the caller set.
    #[error("tap device {name} does not exist")]
    TapMissing {
        /// The device.
        name: String,
    },
    /// MTU out of range.
    #[error("mtu {mtu} of tap device {name} is outside {MTU_MIN} to {MTU_MAX}")]
    Mtu {
        /// The device.
        name: String,
        /// What was asked for.
        mtu: u16,
    },
}

impl ConfigError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            ConfigError::Dir { .. } => "vm_dir_invalid",
            ConfigError::SocketPath(_) => "vm_dir_too_long",
            ConfigError::CmdlineWord { .. } => "cmdline_invalid",
            ConfigError::CmdlineTooLong { .. } => "cmdline_too_long",
            ConfigError::Memory { .. } => "memory_invalid",
            ConfigError::Vcpus | ConfigError::TooManyVcpus { .. } => "vcpus_invalid",
            ConfigError::TooManyDisks { .. } => "too_many_disks",
            ConfigError::DiskPath { .. } => "disk_path_invalid",
            ConfigError::TapName(_) => "tap_name_invalid",
            ConfigError::TapMissing { .. } => "tap_missing",
            ConfigError::Mtu { .. } => "mtu_invalid",
        }
    }
}

impl VmConfig {
    /// Checks everything that can be checked without starting anything, whatever the VMM.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        // The vsock daemon makes socket names of text.
        let is_text = self
            .dir
            .to_str()
            .is_some_and(|text| !text.contains(char::is_control));
        if !is_text || !self.dir.is_absolute() || !self.dir.is_dir() {
            return Err(ConfigError::Dir {
                path: self.dir.clone(),
            });
        }
        VsockPath::in_dir(&self.dir)?;
        check_cmdline(&self.cmdline_extra)?;
        if !(MEMORY_MIB_MIN..=MEMORY_MIB_MAX).contains(&self.memory_mib) {
            return Err(ConfigError::Memory { mib: self.memory_mib });
        }
        if self.vcpus == 0 {
            return Err(ConfigError::Vcpus);
        }
        if self.disks.len() > DISKS_MAX {
            return Err(ConfigError::TooManyDisks {
                count: self.disks.len(),
            });
        }
        if let Some(disk) = self.disks.iter().find(|disk| !disk.path.is_absolute()) {
            return Err(ConfigError::DiskPath {
                path: disk.path.clone(),
            });
        }
        if let Some(tap) = &self.tap {
            check_interface_name(&tap.name)?;
            if !tap::exists(&tap.name) {
                return Err(ConfigError::TapMissing {
                    name: tap.name.clone(),
                });
            }
            if !(MTU_MIN..=MTU_MAX).contains(&tap.mtu) {
                return Err(ConfigError::Mtu {
                    name: tap.name.clone(),
                    mtu: tap.mtu,
                });
            }
        }
        Ok(())
    }

    /// What Firecracker wants beside that.
    pub(crate) fn check_firecracker(&self) -> Result<(), ConfigError> {
        if self.vcpus > FIRECRACKER_VCPUS_MAX {
            return Err(ConfigError::TooManyVcpus { vcpus: self.vcpus });
        }
        Ok(())
    }
}

fn check_cmdline(words: &[String]) -> Result<(), ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'');
    if let Some(word) = words
        .iter()
        .find(|word| word.is_empty() || !word.bytes().all(is_plain))
    {
        return Err(ConfigError::CmdlineWord { word: word.clone() });
    }
    let bytes = words.iter().map(|word| word.len() + 1).sum();
    if bytes > CMDLINE_EXTRA_BYTES_MAX {
        return Err(ConfigError::CmdlineTooLong { bytes });
    }
    Ok(())
}

impl VmImage {
    /// Takes an open file. Its position does not matter.
    pub fn new(file: File) -> VmImage {
        VmImage(file)
    }

    /// The name under which a child of this process opens this very inode.
    pub(crate) fn proc_path(&self) -> PathBuf {
        proc_path(&self.0)
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

/// The name under which a child of this process opens the very inode that is open here.
pub(crate) fn proc_path(file: &File) -> PathBuf {
    Path::new("/proc")
        .join(std::process::id().to_string())
        .join("fd")
        .join(file.as_raw_fd().to_string())
}

impl From<File> for VmImage {
    fn from(file: File) -> VmImage {
        VmImage::new(file)
    }
}

impl MacAddress {
    /// A locally administered unicast address with these five lower bytes: no vendor's card has it.
    pub fn local(bytes: [u8; 5]) -> MacAddress {
        let [b, c, d, e, f] = bytes;
        MacAddress([0x02, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// A text is not the hardware address of one interface.
#[derive(Debug, thiserror::Error)]
#[error("hardware address {0:?} is not six two-digit hex numbers of a unicast address")]
pub struct MacAddressError(String);

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || MacAddressError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(refuse)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        let [first, ..] = bytes;
        if parts.next().is_some() || first & 1 == 1 {
            return Err(refuse());
        }
        Ok(MacAddress(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> VmConfig {
        let image = || VmImage::new(File::open("/dev/null").unwrap());
        VmConfig {
            dir: dir.to_path_buf(),
            kernel: image(),
            initramfs: image(),
            cmdline_extra: vec!["plfm.instance_id=i-1".into()],
            memory_mib: 128,
            vcpus: 1,
            disks: vec![Disk {
                path: "/root.img".into(),
                access: DiskAccess::ReadOnly,
            }],
            tap: None,
            console_bytes_max: CONSOLE_BYTES_MAX_DEFAULT,
            start_timeout: START_TIMEOUT_DEFAULT,
        }
    }

    /// The code that a changed configuration is refused with.
    fn refused(change: impl FnOnce(&mut VmConfig)) -> &'static str {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        config.check().map_or_else(|error| error.code(), |_| "accepted")
    }

    #[test]
    fn a_usual_configuration_is_accepted() {
        assert_eq!(refused(|_| ()), "accepted");
    }

    #[test]
    fn the_directory_must_exist_and_be_absolute_text() {
        assert_eq!(refused(|config| config.dir = "/nowhere".into()), "vm_dir_invalid");
        assert_eq!(refused(|config| config.dir = ".".into()), "vm_dir_invalid");
        assert_eq!(
            refused(|config| config.dir = "/etc/passwd".into()),
            "vm_dir_invalid"
        );
    }

    #[test]
    fn a_directory_that_is_too_deep_for_sockets_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(90));
        std::fs::create_dir(&deep).unwrap();
        assert_eq!(refused(|config| config.dir = deep), "vm_dir_too_long");
    }

    #[test]
    fn command_line_words_are_plain() {
        for bad in ["", "a b", "a\tb", "a\nb", "a=\"b\"", "it's", "ä", "a\u{7f}", "\0"] {
            assert_eq!(
                refused(|config| config.cmdline_extra.push(bad.into())),
                "cmdline_invalid",
                "{bad:?}"
            );
        }
        assert_eq!(
            refused(|config| config.cmdline_extra = vec!["a".repeat(512); 2]),
            "cmdline_too_long"
        );
        assert_eq!(
            refused(|config| config.cmdline_extra = vec!["a".repeat(511); 2]),
            "accepted"
        );
    }

    #[test]
    fn numbers_are_within_their_limits() {
        assert_eq!(refused(|config| config.memory_mib = 0), "memory_invalid");
        assert_eq!(refused(|config| config.memory_mib = u32::MAX), "memory_invalid");
        assert_eq!(refused(|config| config.vcpus = 0), "vcpus_invalid");
        let disk = |path: &str| Disk {
            path: path.into(),
            access: DiskAccess::ReadWrite,
        };
        assert_eq!(
            refused(|config| config.disks = vec![disk("/d"); DISKS_MAX + 1]),
            "too_many_disks"
        );
        assert_eq!(
            refused(|config| config.disks = vec![disk("/d"); DISKS_MAX]),
            "accepted"
        );
        assert_eq!(
            refused(|config| config.disks = vec![disk("d")]),
            "disk_path_invalid"
        );
    }

    #[test]
    fn a_tap_device_must_have_a_name_and_exist() {
        let tap = |name: &str| TapConfig {
            name: name.into(),
            mac: MacAddress::local([0; 5]),
            mtu: 1420,
        };
        assert_eq!(
            refused(|config| config.tap = Some(tap("a,script=x"))),
            "tap_name_invalid"
        );
        assert_eq!(
            refused(|config| config.tap = Some(tap("sixteen-bytes-xx"))),
            "tap_name_invalid"
        );
        assert_eq!(
            refused(|config| config.tap = Some(tap("no-such-tap"))),
            "tap_missing"
        );
        assert_eq!(
            refused(|config| config.tap = Some(tap("lo"))),
            "tap_missing",
            "lo is no tap device"
        );
    }

    #[test]
    fn a_hardware_address_prints_as_it_parses() {
        for text in ["02:00:5e:00:53:ff", "00:00:00:00:00:00"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "02:00:5e:00:53",
            "02:00:5e:00:53:ff:00",
            "01:00:5e:00:53:ff",
            "2:0:5e:0:53:ff",
            "02:00:5e:00:53:+f",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
