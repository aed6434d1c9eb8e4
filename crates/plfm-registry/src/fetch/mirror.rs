//! Where a copy of the repository is: a web server, or a directory.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

/// The base of one copy of the repository; `metadata/` and `targets/` are below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Mirror {
    /// Any web server that serves static files.
    Http(Url),
    /// A directory: a mounted share, or an image that was carried in by hand.
    Dir(PathBuf),
}

/// A text that is not a mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a mirror: {why}")]
pub struct MirrorError {
    text: String,
    why: &'static str,
}

impl FromStr for Mirror {
    type Err = MirrorError;

    /// `http://…`, `https://…`, `file:///…` or an absolute path.
    fn from_str(text: &str) -> Result<Self, MirrorError> {
        let fail = |why| {
            let text = text.chars().take(200).collect();
            Err(MirrorError { text, why })
        };
        if text.starts_with('/') {
            return Ok(Self::Dir(PathBuf::from(text)));
        }
        let Ok(mut url) = Url::parse(text) else {
            return fail("neither a URL nor an absolute path");
        };
        if url.query().is_some() || url.fragment().is_some() {
            return fail("a base URL has no query and no fragment");
        }
        match url.scheme() {
            "http" | "https" => {
                if !url.path().ends_with('/') {
                    url.set_path(&format!("{}/", url.path()));
                }
                Ok(Self::Http(url))
            }
            "file" => match url.to_file_path() {
                Ok(path) => Ok(Self::Dir(path)),
                Err(()) => fail("the path of a file URL is absolute and local"),
            },
            _ => fail("the scheme is http, https or file"),
        }
    }
}

impl fmt::Display for Mirror {
    /// Without a password that the URL may have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => path.display().fmt(f),
            Self::Http(url) if url.password().is_none() => url.as_str().fmt(f),
            Self::Http(url) => {
                let mut shown = url.clone();
                // Fails only for URLs without a host, which have no password.
                let _ = shown.set_password(Some("***"));
                shown.as_str().fmt(f)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_read_and_printed() {
        for (text, shown) in [
            ("http://a.example/plfm", "http://a.example/plfm/"),
            ("https://a.example/", "https://a.example/"),
            ("/srv/registry", "/srv/registry"),
            ("file:///srv/registry", "/srv/registry"),
            ("https://me:secret@a.example/", "https://me:***@a.example/"),
        ] {
            assert_eq!(text.parse::<Mirror>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn other_schemes_relative_paths_and_queries_are_refused() {
        for text in [
            "",
            "registry",
            "ftp://a/",
            "http://a/?x=1",
            "http://a/#x",
            "data:x",
        ] {
            assert!(text.parse::<Mirror>().is_err(), "{text:?} was taken");
        }
    }
}
