//! A kernel's source: unpacked from its tarball, with the version and the time that it gives itself.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jiff::Timestamp;
use plfm_release::{KernelVersion, NameError, Sha256Digest, Sha256Hasher};

use crate::command::{self, RunError};
use crate::kernel::toolchain::clean_command;

/// Digest of a file's content.
pub(crate) fn hash_file(path: &Path) -> io::Result<Sha256Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// Unpacks the tarball's one top directory as `target`.
pub(crate) fn unpack(tarball: &Path, target: &Path, log: &Path) -> Result<(), RunError> {
    let mut command = clean_command("tar");
    command.args([
        "--extract",
        "--no-same-owner",
        "--no-same-permissions",
        "--strip-components=1",
    ]);
    command.arg("--directory").arg(target).arg("--file").arg(tarball);
    command::run(&mut command, log, &mut |_| ())
}

/// The version that the first lines of a kernel's Makefile give it; `None` if they don't.
pub(crate) fn parse_version(makefile: &str) -> Option<Result<KernelVersion, NameError>> {
    let value = |name: &str| {
        let mut values = makefile.lines().take(20).filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then_some(value.trim())
        });
        values.next()
    };
    let (version, patchlevel, sublevel) = (value("VERSION")?, value("PATCHLEVEL")?, value("SUBLEVEL")?);
    let extra = value("EXTRAVERSION").unwrap_or_default();
    Some(format!("{version}.{patchlevel}.{sublevel}{extra}").parse())
}

/// A time as `date -u` prints it in the C locale, which is what the kernel's version string has.
pub(crate) fn render_date(time: Timestamp) -> String {
    time.strftime("%a %b %e %H:%M:%S UTC %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_makefile_gives_the_version() {
        let makefile = "# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\nNAME = x\n";
        assert_eq!(parse_version(makefile).unwrap().unwrap().as_str(), "6.1.192");
        let candidate = makefile.replace("EXTRAVERSION =", "EXTRAVERSION = -rc3");
        assert_eq!(
            parse_version(&candidate).unwrap().unwrap().as_str(),
            "6.1.192-rc3"
        );
        assert!(
            parse_version(&makefile.replace("EXTRAVERSION =", "EXTRAVERSION = -mine"))
                .unwrap()
                .is_err()
        );
        assert!(parse_version("all:\n\techo\n").is_none());
    }

    #[test]
    fn dates_are_those_of_the_c_locale() {
        let time: Timestamp = "2026-11-06T08:05:09Z".parse().unwrap();
        assert_eq!(render_date(time), "Fri Nov  6 08:05:09 UTC 2026");
    }
}
