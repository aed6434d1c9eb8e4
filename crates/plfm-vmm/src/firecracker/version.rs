//! Which Firecracker this is: what it says of itself, and whether this runner was made for it.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program prints its version in milliseconds; one that does not within this is not taken.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The version is in the first line; what follows is log.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;
const POLL: Duration = Duration::from_millis(2);

/// The oldest and the newest minor version whose API this runner was written for.
const MINOR_OLDEST: u32 = 7;
const MINOR_NEWEST: u32 = 17;
/// The first minor version that boots a bzImage on x86-64.
const MINOR_BZIMAGE: u32 = 17;

/// A version of Firecracker or of its jailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirecrackerVersion {
    /// Always 1 so far.
    pub major: u32,
    /// What tells APIs apart.
    pub minor: u32,
    /// Fixes.
    pub patch: u32,
}

/// A program's version is not known, or not one that is accepted.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// It can't be run.
    #[error("can't run {} --version", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It said nothing in time.
    #[error("{} --version did not end within {} s", path.display(), ANSWER_MAX.as_secs())]
    Silent {
        /// The program.
        path: PathBuf,
    },
    /// It said something else.
    #[error("{} --version says {answer:?}, which is no version of Firecracker", path.display())]
    Unreadable {
        /// The program.
        path: PathBuf,
        /// Its first line, cut.
        answer: String,
    },
    /// Too old or too new.
    #[error(
        "{} is version {version}; versions 1.{MINOR_OLDEST} to 1.{MINOR_NEWEST} are supported: install one of these",
        path.display()
    )]
    Unsupported {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: FirecrackerVersion,
    },
}

impl VersionError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            VersionError::Run { .. } => "firecracker_not_runnable",
            VersionError::Silent { .. } => "firecracker_silent",
            VersionError::Unreadable { .. } => "firecracker_version_unreadable",
            VersionError::Unsupported { .. } => "firecracker_version_unsupported",
        }
    }
}

impl FirecrackerVersion {
    /// Asks a program, `firecracker` or `jailer`. Blocks for a few milliseconds, and for at most five seconds.
    pub fn of(program: &Path) -> Result<FirecrackerVersion, VersionError> {
        let answer = ask(program)?;
        let version = parse_answer(&answer).ok_or_else(|| VersionError::Unreadable {
            path: program.to_path_buf(),
            answer: answer
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(80)
                .collect(),
        })?;
        if version.is_supported() {
            Ok(version)
        } else {
            Err(VersionError::Unsupported {
                path: program.to_path_buf(),
                version,
            })
        }
    }

    /// Whether this runner was made for it.
    pub fn is_supported(self) -> bool {
        self.major == 1 && (MINOR_OLDEST..=MINOR_NEWEST).contains(&self.minor)
    }

    /// Whether it boots a bzImage too, and not only an ELF kernel.
    pub fn boots_bzimage(self) -> bool {
        self.major > 1 || self.minor >= MINOR_BZIMAGE
    }
}

impl fmt::Display for FirecrackerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

fn ask(program: &Path) -> Result<String, VersionError> {
    let run = |source| VersionError::Run {
        path: program.to_path_buf(),
        source,
    };
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(run)?;
    let give_up_at = Instant::now() + ANSWER_MAX;
    // What it says fits into the pipe, so it ends without being read.
    while child.try_wait().map_err(run)?.is_none() {
        if Instant::now() >= give_up_at {
            let _ = child.kill();
            let _ = child.wait();
            return Err(VersionError::Silent {
                path: program.to_path_buf(),
            });
        }
        std::thread::sleep(POLL);
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .map_err(run)?;
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The version in `Firecracker v1.12.1` or `Jailer v1.12.1`, the first line. What a build adds after it
/// (`v1.13.0-dev`, `v1.7.0-dirty`) tells of no other API.
fn parse_answer(answer: &str) -> Option<FirecrackerVersion> {
    let line = answer.lines().next()?.trim();
    let version = line
        .strip_prefix("Firecracker v")
        .or_else(|| line.strip_prefix("Jailer v"))?;
    let numbers = version.split(['-', '+', ' ']).next()?;
    let mut parts = numbers.split('.').map(|part| part.parse::<u32>().ok());
    let version = FirecrackerVersion {
        major: parts.next()??,
        minor: parts.next()??,
        patch: parts.next()??,
    };
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Option<FirecrackerVersion> {
        parse_answer(text)
    }

    #[test]
    fn the_first_line_is_the_version_and_the_rest_is_log() {
        let said =
            "Firecracker v1.12.1\n\n2026-11-24T17:34:03 [anonymous-instance:main] Firecracker exiting\n";
        assert_eq!(version(said).unwrap().to_string(), "1.12.1");
        assert_eq!(version("Jailer v1.7.0-dirty\n").unwrap().to_string(), "1.7.0");
        for other in [
            "",
            "firecracker",
            "Firecracker v1.12",
            "Firecracker v1.x.2",
            "QEMU emulator version 7.2",
        ] {
            assert_eq!(version(other), None, "{other}");
        }
    }

    #[test]
    fn versions_from_1_7_to_1_17_are_taken() {
        let is_supported = |text: &str| version(&format!("Firecracker v{text}")).unwrap().is_supported();
        for taken in ["1.7.0", "1.12.1", "1.17.9"] {
            assert!(is_supported(taken), "{taken}");
        }
        for refused in ["0.25.0", "1.6.9", "1.18.0", "2.7.0"] {
            assert!(!is_supported(refused), "{refused}");
        }
    }

    #[test]
    fn what_is_no_firecracker_is_refused_in_words() {
        let error = FirecrackerVersion::of(Path::new("/bin/true")).unwrap_err();
        assert_eq!(error.code(), "firecracker_version_unreadable");
        let error = FirecrackerVersion::of(Path::new("/nowhere/firecracker")).unwrap_err();
        assert_eq!(error.code(), "firecracker_not_runnable");
        let unsupported = VersionError::Unsupported {
            path: "/usr/bin/firecracker".into(),
            version: version("Firecracker v1.6.0").unwrap(),
        };
        assert_eq!(
            unsupported.to_string(),
            "/usr/bin/firecracker is version 1.6.0; versions 1.7 to 1.17 are supported: install one of these"
        );
    }
}
