//! `manifest.json` of a docker archive.

use plfm_release::Sha256Digest;
use serde::Deserialize;

use crate::oci::DocumentError;
use crate::reference::Reference;

/// One image of the archive.
#[derive(Debug, Deserialize)]
pub(crate) struct SavedImage {
    #[serde(rename = "Config")]
    pub config: String,
    #[serde(rename = "RepoTags", default)]
    names: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    pub layers: Vec<String>,
}

impl SavedImage {
    /// The image with this name; with no name the only one.
    pub(crate) fn choose(bytes: &[u8], name: Option<&str>) -> Result<Self, DocumentError> {
        let what = "manifest.json";
        let images: Vec<Self> =
            serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { what, source })?;
        let names: Vec<String> = images
            .iter()
            .flat_map(|image| image.names.iter().flatten().cloned())
            .collect();
        let names = names
            .iter()
            .take(10)
            .map(|name| name.chars().take(120).collect::<String>());
        let names = names.collect::<Vec<_>>().join(", ");
        let mut chosen = images
            .into_iter()
            .filter(|image| name.is_none_or(|name| image.has_name(name)));
        match (chosen.next(), chosen.next(), name) {
            (Some(image), None, _) | (Some(image), Some(_), Some(_)) => Ok(image),
            (Some(_), Some(_), None) => Err(DocumentError::Several { names }),
            (None, _, name) => Err(DocumentError::NoSuchImage {
                name: name.unwrap_or("of any name").to_owned(),
                names,
            }),
        }
    }

    fn has_name(&self, name: &str) -> bool {
        let reference = |text: &str| text.parse::<Reference>().ok();
        let mut names = self.names.iter().flatten();
        names.any(|candidate| {
            candidate == name || reference(name).is_some_and(|name| Some(name) == reference(candidate))
        })
    }

    /// The configuration's digest, where its name is made of it: `<hex>.json`, `blobs/sha256/<hex>`.
    pub(crate) fn config_digest(&self) -> Option<Sha256Digest> {
        let name = self.config.rsplit('/').next()?;
        name.strip_suffix(".json").unwrap_or(name).parse().ok()
    }
}
