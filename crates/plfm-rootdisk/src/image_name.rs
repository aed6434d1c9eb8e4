//! Where an image comes from: a directory, an archive or a registry.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::reference::{Reference, ReferenceError};

/// Where an image comes from, as people write it.
///
/// | text | |
/// |---|---|
/// | `oci:PATH[:NAME]` | a directory in the OCI image layout |
/// | `docker-archive:PATH[:NAME]`, `oci-archive:PATH[:NAME]` | a tar of `docker save`, or of such a directory |
/// | `docker://REFERENCE`, `REFERENCE` | a registry |
///
/// Its own text is the first of these forms, complete, and round-trips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// A directory in the OCI image layout, and the name in it.
    Layout(PathBuf, Option<String>),
    /// A tar archive, and the name in it.
    Archive(PathBuf, Option<String>),
    /// An image in a registry.
    Registry(Reference),
}

impl FromStr for ImageName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix("oci:") {
            return split_path(text, rest).map(|(path, name)| Self::Layout(path, name));
        }
        let archive = text
            .strip_prefix("docker-archive:")
            .or_else(|| text.strip_prefix("oci-archive:"));
        if let Some(rest) = archive {
            return split_path(text, rest).map(|(path, name)| Self::Archive(path, name));
        }
        text.strip_prefix("docker://")
            .unwrap_or(text)
            .parse()
            .map(Self::Registry)
    }
}

impl ImageName {
    /// The same image; a path that is relative is meant from `base`.
    pub fn below(self, base: &Path) -> Self {
        match self {
            Self::Layout(path, name) => Self::Layout(base.join(path), name),
            Self::Archive(path, name) => Self::Archive(base.join(path), name),
            Self::Registry(reference) => Self::Registry(reference),
        }
    }

    /// The file or directory on this host that holds it, if one does.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Layout(path, _) | Self::Archive(path, _) => Some(path),
            Self::Registry(_) => None,
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path, name) = match self {
            Self::Registry(reference) => return reference.fmt(f),
            Self::Layout(path, name) => ("oci", path, name),
            Self::Archive(path, name) => ("docker-archive", path, name),
        };
        write!(f, "{kind}:{}", path.display())?;
        match name {
            Some(name) => write!(f, ":{name}"),
            None => Ok(()),
        }
    }
}

/// The path ends at the first colon; the name may have more of them.
fn split_path(text: &str, rest: &str) -> Result<(PathBuf, Option<String>), ReferenceError> {
    let (path, name) = match rest.split_once(':') {
        Some((path, name)) => (path, Some(name.to_owned()).filter(|name| !name.is_empty())),
        None => (rest, None),
    };
    if path.is_empty() {
        return Err(ReferenceError::new(text, "the path is missing"));
    }
    Ok((PathBuf::from(path), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn local_images_are_told_by_their_prefix() {
        let name = |text: &str| text.parse::<ImageName>().unwrap();
        assert_eq!(name("oci:/a/b"), ImageName::Layout("/a/b".into(), None));
        assert_eq!(
            name("oci:/a/b:web"),
            ImageName::Layout("/a/b".into(), Some("web".into()))
        );
        let archive = ImageName::Archive("x.tar".into(), Some("me/app:1".into()));
        assert_eq!(name("docker-archive:x.tar:me/app:1"), archive);
        assert!(matches!(name("docker://nginx"), ImageName::Registry(_)));
        assert!("oci:".parse::<ImageName>().is_err());
    }

    #[test]
    fn a_relative_path_is_meant_from_where_one_is() {
        let below = |text: &str| {
            text.parse::<ImageName>()
                .unwrap()
                .below(Path::new("/here"))
                .to_string()
        };
        assert_eq!(below("oci:a/b:web"), "oci:/here/a/b:web");
        assert_eq!(below("docker-archive:/x.tar"), "docker-archive:/x.tar");
        assert_eq!(below("nginx"), "docker.io/library/nginx:latest");
    }

    proptest! {
        #[test]
        fn image_names_round_trip(text in "(oci:|docker-archive:)/[a-z/.]{0,12}(:[a-z0-9./:-]{1,9})?") {
            let name: ImageName = text.parse().unwrap();
            prop_assert_eq!(name.to_string().parse::<ImageName>().unwrap(), name);
        }

        #[test]
        fn any_text_gives_an_image_or_an_error(text: String) {
            let _ = text.parse::<ImageName>();
        }
    }
}
