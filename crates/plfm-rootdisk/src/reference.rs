//! Names of images: where they are and which one is meant.

use std::fmt;
use std::str::FromStr;

use plfm_release::Sha256Digest;

use crate::oci::parse_digest;

const HUB: &str = "docker.io";
/// Where the hub's registry answers.
const HUB_HOST: &str = "registry-1.docker.io";
const TAG_DEFAULT: &str = "latest";
/// Bytes of a repository's path, as registries have it.
const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// An image in a registry: `[registry/]repository[:tag][@sha256:digest]`, with docker's defaults: `nginx` is
/// `docker.io/library/nginx:latest`. Its text form is complete and round-trips.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Sha256Digest>,
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

impl ReferenceError {
    pub(crate) fn new(text: &str, reason: &'static str) -> Self {
        let text = text.chars().take(120).collect();
        Self { text, reason }
    }
}

impl Reference {
    /// The registry's name, as credentials have it.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The host and port that answer for the registry.
    pub fn host(&self) -> &str {
        if self.registry == HUB {
            HUB_HOST
        } else {
            &self.registry
        }
    }

    /// The repository in it.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; a reference by digest may have none.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins it.
    pub fn digest(&self) -> Option<Sha256Digest> {
        self.digest
    }

    /// The same image, pinned.
    pub fn pinned(&self, digest: Sha256Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| ReferenceError::new(text, reason);
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest =
                    parse_digest(digest).ok_or_else(|| error("the digest is not sha256:<64 hex digits>"))?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let (registry, rest) = split_registry(name);
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if !is_registry(registry) {
            return Err(error("the registry is not a host"));
        }
        if repository.len() > REPOSITORY_BYTES_MAX || !repository.split('/').all(is_component) {
            return Err(error(
                "the repository is not lower-case names with slashes between",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(error("the tag is not one"));
        }
        let is_official = registry == HUB && !repository.contains('/');
        let repository = if is_official {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let tag = tag.or(if digest.is_none() { Some(TAG_DEFAULT) } else { None });
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@sha256:{digest}"),
            None => Ok(()),
        }
    }
}

/// The first part is a registry if it can be no repository: with a dot, a port, or `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (HUB, rest),
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => (HUB, name),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => return is_port(port),
        Some(_) => return false,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_label = |label: &str| {
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.bytes().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= REPOSITORY_BYTES_MAX && host.split('.').all(is_label) && is_port(port)
}

/// Nothing, or a colon and a port.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Letters and digits, with single dots, one or two underscores, or dashes between.
fn is_component(text: &str) -> bool {
    let is_alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    let separators = bytes.split(is_alphanumeric).filter(|part| !part.is_empty());
    ends.iter().all(|end| end.is_some_and(is_alphanumeric))
        && separators
            .into_iter()
            .all(|part| matches!(part, b"." | b"_" | b"__") || part.iter().all(|b| *b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=TAG_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_inner) && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn short_names_are_the_hubs_and_latest() {
        assert_eq!(full("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(full("me/app:1.2"), "docker.io/me/app:1.2");
        assert_eq!(full("index.docker.io/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(
            "nginx".parse::<Reference>().unwrap().host(),
            "registry-1.docker.io"
        );
    }

    #[test]
    fn a_host_with_a_dot_a_port_or_localhost_is_a_registry() {
        assert_eq!(full("localhost/app"), "localhost/app:latest");
        assert_eq!(full("127.0.0.1:5000/a/b:t"), "127.0.0.1:5000/a/b:t");
        assert_eq!(full("[::1]:5000/a"), "[::1]:5000/a:latest");
        assert_eq!(
            full("registry.example/a__b/c-d.e"),
            "registry.example/a__b/c-d.e:latest"
        );
    }

    #[test]
    fn a_digest_pins_and_needs_no_tag() {
        let digest = "a".repeat(64);
        assert_eq!(
            full(&format!("r.example/a@sha256:{digest}")),
            format!("r.example/a@sha256:{digest}")
        );
        let both: Reference = format!("r.example/a:t@sha256:{digest}").parse().unwrap();
        assert_eq!(both.tag(), Some("t"));
        assert!(both.digest().is_some());
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for bad in [
            "",
            "A",
            "a//b",
            "a:",
            "a:b:c",
            "-a",
            "a@sha256:x",
            "a@md5:x",
            "r.x:0/a",
            "a_-b",
            "a/../b",
            "http://a/b",
            ".a",
            "a b",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn references_round_trip(text in "([a-z]{1,5}\\.[a-z]{2}(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,8}([._-][a-z0-9]{1,5}){0,2}(/[a-z]{1,4}){0,2}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,8})?") {
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }
}
