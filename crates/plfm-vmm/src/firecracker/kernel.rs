//! Which kernels Firecracker boots.

use std::os::unix::fs::FileExt;

use super::version::FirecrackerVersion;
use crate::config::VmImage;
use crate::start_error::StartError;

const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
/// In the header of a bzImage, `Documentation/arch/x86/boot.rst`.
const BZIMAGE_MAGIC: [u8; 4] = *b"HdrS";
const BZIMAGE_MAGIC_AT: u64 = 0x202;

/// Refuses what the VMM would refuse later, or boot into nothing.
pub(crate) fn check_format(kernel: &VmImage, version: FirecrackerVersion) -> Result<(), StartError> {
    let magic_at = |offset| {
        let mut bytes = [0; 4];
        kernel
            .file()
            .read_exact_at(&mut bytes, offset)
            .ok()
            .map(|()| bytes)
    };
    if magic_at(0) == Some(ELF_MAGIC) {
        return Ok(());
    }
    let is_bzimage = magic_at(BZIMAGE_MAGIC_AT) == Some(BZIMAGE_MAGIC);
    if is_bzimage && version.boots_bzimage() {
        return Ok(());
    }
    let found = if is_bzimage { "a bzImage" } else { "no ELF file" };
    Err(StartError::KernelFormat { found, version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn check(bytes: &[u8], minor: u32) -> Result<(), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let version = FirecrackerVersion {
            major: 1,
            minor,
            patch: 0,
        };
        check_format(&file.into(), version).map_err(|error| error.to_string())
    }

    #[test]
    fn a_kernel_that_can_not_boot_is_refused_in_words() {
        let mut bzimage = vec![0; 0x202];
        bzimage.extend(BZIMAGE_MAGIC);
        assert_eq!(check(b"\x7fELF\x02\x01", 7), Ok(()));
        assert_eq!(check(&bzimage, 17), Ok(()));
        assert_eq!(
            check(&bzimage, 12).unwrap_err(),
            "the kernel is a bzImage, which firecracker 1.12.0 does not boot: it takes an ELF vmlinux"
        );
        assert!(check(b"", 17).unwrap_err().contains("no ELF file"));
    }
}
