//! Names of artifacts and of releases, as the spec's section "Artifact Naming" has them.
//!
//! ```text
//! vmlinuz-plfm-<kernel_version>-<build_id>
//! initramfs-plfm-guestinit-<guest_init_version>-<build_id>.img
//! ```
//!
//! Every name is also a file name and part of a URL, so the alphabets are small: no separator, no space, no
//! control character can be in any part. Each type's `Display` and `FromStr` round-trip.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const KERNEL_PREFIX: &str = "vmlinuz-plfm-";
const INITRAMFS_PREFIX: &str = "initramfs-plfm-guestinit-";
const INITRAMFS_SUFFIX: &str = ".img";
const INITRAMFS_LABEL_PREFIX: &str = "guestinit-";
/// Longest build id: with the longest versions a name stays far under a file system's 255 bytes.
const BUILD_ID_BYTES_MAX: usize = 32;
const VERSION_BYTES_MAX: usize = 48;

/// A text that is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct NameError {
    text: String,
    expected: &'static str,
}

impl NameError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(120).collect(),
            expected,
        }
    }
}

/// Serde and conversions for a newtype over `String` whose check is `$check`.
macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $expected:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(NameError::new(text, $expected)) }
            }
        }

        text_conversions!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! text_conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

text_newtype!(
    /// Which build made an artifact: by convention the day and a letter, `20251217a`.
    BuildId,
    "a build id (1 to 32 lowercase letters and digits, such as 20251217a)",
    |text| {
        (1..=BUILD_ID_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    }
);

text_newtype!(
    /// Version of the kernel's source, as its own Makefile has it: `6.1.50`, `6.12.0-rc3`.
    KernelVersion,
    "a kernel version (such as 6.1.50 or 6.12.0-rc3)",
    |text| {
        let (numbers, candidate) = text.split_once("-rc").unwrap_or((text, "0"));
        let parts: Vec<&str> = numbers.split('.').collect();
        (2..=3).contains(&parts.len()) && parts.into_iter().chain([candidate]).all(is_number)
    }
);

text_newtype!(
    /// Version of guest init: semantic version 2.0.0 without build metadata.
    GuestInitVersion,
    "a guest init version (semantic version without build metadata, such as 1.0.0)",
    |text| {
        text.len() <= VERSION_BYTES_MAX
            && text.parse::<semver::Version>().is_ok_and(|version| version.build.is_empty())
    }
);

fn is_number(text: &str) -> bool {
    (1..=5).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

/// A kernel's version label, `6.1.50-20251217a`: how the spec's advertisement names a kernel.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelLabel {
    /// The kernel's version.
    pub version: KernelVersion,
    /// Which build made it.
    pub build_id: BuildId,
}

/// An initramfs's version label, `guestinit-1.0.0-20251217a`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InitramfsLabel {
    /// The version of the guest init in it.
    pub version: GuestInitVersion,
    /// Which build made it.
    pub build_id: BuildId,
}

impl KernelLabel {
    /// The artifact's file name, `vmlinuz-plfm-6.1.50-20251217a`.
    pub fn artifact_name(&self) -> ArtifactName {
        ArtifactName::Kernel(self.clone())
    }
}

impl InitramfsLabel {
    /// The artifact's file name, `initramfs-plfm-guestinit-1.0.0-20251217a.img`.
    pub fn artifact_name(&self) -> ArtifactName {
        ArtifactName::Initramfs(self.clone())
    }
}

/// Splits `<version>-<build_id>` at the last dash: a build id has none, a version may.
fn parse_versioned<V: FromStr>(text: &str) -> Option<(V, BuildId)> {
    let (version, build_id) = text.rsplit_once('-')?;
    Some((version.parse().ok()?, build_id.parse().ok()?))
}

impl FromStr for KernelLabel {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (version, build_id) = parse_versioned(text)
            .ok_or_else(|| NameError::new(text, "a kernel label (such as 6.1.50-20251217a)"))?;
        Ok(Self { version, build_id })
    }
}

impl fmt::Display for KernelLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.version, self.build_id)
    }
}

impl FromStr for InitramfsLabel {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (version, build_id) = text
            .strip_prefix(INITRAMFS_LABEL_PREFIX)
            .and_then(parse_versioned)
            .ok_or_else(|| NameError::new(text, "an initramfs label (such as guestinit-1.0.0-20251217a)"))?;
        Ok(Self { version, build_id })
    }
}

impl fmt::Display for InitramfsLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{INITRAMFS_LABEL_PREFIX}{}-{}", self.version, self.build_id)
    }
}

text_conversions!(KernelLabel);
text_conversions!(InitramfsLabel);

/// The file name of an artifact.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ArtifactName {
    /// `vmlinuz-plfm-<kernel_version>-<build_id>`
    Kernel(KernelLabel),
    /// `initramfs-plfm-guestinit-<guest_init_version>-<build_id>.img`
    Initramfs(InitramfsLabel),
}

impl FromStr for ArtifactName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || {
            NameError::new(
                text,
                "an artifact name (vmlinuz-plfm-<version>-<build> or initramfs-plfm-guestinit-<version>-<build>.img)",
            )
        };
        if let Some(rest) = text.strip_prefix(KERNEL_PREFIX) {
            return rest.parse().map(Self::Kernel).map_err(|_| error());
        }
        let rest = text
            .strip_prefix(INITRAMFS_PREFIX)
            .and_then(|rest| rest.strip_suffix(INITRAMFS_SUFFIX));
        let (version, build_id) = rest.and_then(parse_versioned).ok_or_else(error)?;
        Ok(Self::Initramfs(InitramfsLabel { version, build_id }))
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(label) => write!(f, "{KERNEL_PREFIX}{label}"),
            Self::Initramfs(label) => {
                write!(
                    f,
                    "{INITRAMFS_PREFIX}{}-{}{INITRAMFS_SUFFIX}",
                    label.version, label.build_id
                )
            }
        }
    }
}

text_conversions!(ArtifactName);

/// Which release: the pair of labels, `6.1.50-20251217a+guestinit-1.0.0-20251217a`.
///
/// Two releases may share a kernel or an initramfs, so only the pair names one. Commands take an abbreviation
/// where it is unambiguous; see [`ReleaseId::matches`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId {
    /// The kernel's label.
    pub kernel: KernelLabel,
    /// The initramfs's label.
    pub initramfs: InitramfsLabel,
}

impl ReleaseId {
    /// Whether an operator's `text` may mean this release: the whole id, either label, or a build id.
    pub fn matches(&self, text: &str) -> bool {
        text == self.to_string()
            || text == self.kernel.to_string()
            || text == self.initramfs.to_string()
            || text == self.kernel.build_id.as_str()
            || text == self.initramfs.build_id.as_str()
    }
}

impl FromStr for ReleaseId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let expected = "a release id (such as 6.1.50-20251217a+guestinit-1.0.0-20251217a)";
        let (kernel, initramfs) = text
            .split_once('+')
            .ok_or_else(|| NameError::new(text, expected))?;
        let error = |_| NameError::new(text, expected);
        Ok(Self {
            kernel: kernel.parse().map_err(error)?,
            initramfs: initramfs.parse().map_err(error)?,
        })
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.kernel, self.initramfs)
    }
}

text_conversions!(ReleaseId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_specs_examples_are_names() {
        for name in [
            "vmlinuz-plfm-6.1.50-20251217a",
            "initramfs-plfm-guestinit-1.0.0-20251217a.img",
        ] {
            assert_eq!(name.parse::<ArtifactName>().unwrap().to_string(), name);
        }
        assert_eq!(
            "6.1.50-20251217a".parse::<KernelLabel>().unwrap().to_string(),
            "6.1.50-20251217a"
        );
        let label = "guestinit-1.0.0-20251217a";
        assert_eq!(label.parse::<InitramfsLabel>().unwrap().to_string(), label);
    }

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        let bad = [
            "",
            "..",
            "vmlinuz-plfm-../../etc-a",
            "vmlinuz-plfm-6.1.50-a/b",
            "vmlinuz-plfm-6.1.50-a\n",
            "vmlinuz-plfm-6.1.50-..",
            "/vmlinuz-plfm-6.1.50-a",
            "vmlinuz-plfm-6.1.50-a.img",
            "vmlinuz-plfm-6.1.50-",
            "vmlinuz-plfm-06.1.50-a",
            "vmlinuz-plfm-6.1.50-A",
            "initramfs-plfm-guestinit-1.0.0-a",
            "initramfs-plfm-guestinit-1.0.0+x-a.img",
            "initramfs-plfm-guestinit-1.0-a.img",
            "initramfs-plfm-guestinit-1.0.0-a\u{0}.img",
        ];
        for name in bad {
            assert!(name.parse::<ArtifactName>().is_err(), "{name:?} was taken");
        }
    }

    #[test]
    fn a_version_may_have_dashes() {
        let name = "initramfs-plfm-guestinit-2.0.0-rc.1-20260101b.img";
        let ArtifactName::Initramfs(label) = name.parse().unwrap() else {
            panic!("not an initramfs")
        };
        assert_eq!(
            (label.version.as_str(), label.build_id.as_str()),
            ("2.0.0-rc.1", "20260101b")
        );
        assert!(
            "vmlinuz-plfm-6.12.0-rc3-20260101b"
                .parse::<ArtifactName>()
                .is_ok()
        );
    }

    proptest! {
        #[test]
        fn release_ids_round_trip(
            kernel in "[1-9][0-9]?\\.[1-9][0-9]?(\\.[1-9][0-9]{0,2})?(-rc[1-9])?",
            init in "[0-9]\\.[0-9]\\.[0-9](-[a-z]{1,8}(\\.[1-9])?)?",
            build in "[a-z0-9]{1,32}",
        ) {
            let text = format!("{kernel}-{build}+guestinit-{init}-{build}");
            let id: ReleaseId = text.parse().unwrap();
            prop_assert_eq!(id.to_string(), text.clone());
            prop_assert!(id.matches(&text) && id.matches(&build));
            let name = id.initramfs.artifact_name();
            prop_assert_eq!(name.to_string().parse::<ArtifactName>().unwrap(), name);
        }

        #[test]
        fn no_text_that_parses_holds_a_separator_or_control(text in "\\PC{0,60}|[ -~/.\n]{0,60}") {
            if let Ok(name) = text.parse::<ArtifactName>() {
                prop_assert!(!name.to_string().contains(['/', '\\', '\0', '\n', ' ']));
            }
        }
    }
}
