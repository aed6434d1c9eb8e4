//! Images as clients of the socket see them.

use jiff::Timestamp;
use plfm_api::{Image, ImageDigest, ImageProgram, InstanceImage};
use plfm_release::Sha256Digest;
use plfm_rootdisk::{ImageDefaults, StoredImage};

use super::Obtained;
use super::pull::parse_name;
use super::refusal::store_error;
use crate::agent::Agent;
use crate::problem::ApiError;

/// Digits of a digest that are enough to mean it.
const DIGITS_MIN: usize = 6;

impl Obtained {
    /// For the record of an instance.
    pub fn of_instance(&self) -> InstanceImage {
        InstanceImage {
            name: self.name.clone(),
            digest: ImageDigest(self.image.key().image),
            disk_digest: ImageDigest(self.image.disk_digest()),
        }
    }
}

impl Agent {
    /// All images of this host, the one used last first. Blocking.
    pub fn images(&self) -> Result<Vec<Image>, ApiError> {
        let stored = self.0.images.store.list().map_err(|error| store_error(&error))?;
        let mut images = stored
            .iter()
            .map(|stored| self.image_view(stored))
            .collect::<Result<Vec<_>, _>>()?;
        images.sort_by(|a, b| b.used_at.cmp(&a.used_at).then(a.digest.cmp(&b.digest)));
        Ok(images)
    }

    /// The image that `text` names: a name, a digest or its beginning. Blocking.
    pub fn find_image(&self, text: &str) -> Result<Image, ApiError> {
        let mut images = self.images()?;
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let is_digits = digits.len() >= DIGITS_MIN && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let name = parse_name(text).map(|name| name.to_string());
        let is_named = |image: &Image| name.as_ref().is_ok_and(|name| image.names.contains(name));
        let begins = |image: &Image| is_digits && image.digest.0.to_string().starts_with(digits);
        if images.iter().any(is_named) {
            images.retain(is_named);
        } else {
            images.retain(begins);
        }
        if images.len() > 1 {
            let detail = format!("{text:?} is the beginning of more than one image's digest");
            return Err(ApiError::conflict("image_ambiguous", detail).hint("give more of it"));
        }
        images.pop().ok_or_else(|| {
            ApiError::not_found("image_unknown", format!("this host has no image {text:?}"))
                .hint("see `plfm image list`")
        })
    }

    /// An image as it is now. Blocking.
    pub fn image_view(&self, stored: &StoredImage) -> Result<Image, ApiError> {
        let image = stored.key().image;
        let names = self.0.images.store.names().map_err(|error| store_error(&error))?;
        let names = names.into_iter().filter(|(_, meaning)| *meaning == image);
        Ok(Image {
            digest: ImageDigest(image),
            names: names.map(|(name, _)| name).collect(),
            format: stored.key().format.to_string(),
            disk_bytes: stored.disk_bytes(),
            disk_digest: ImageDigest(stored.disk_digest()),
            dropped_xattrs: stored.dropped_xattrs(),
            used_at: stored.used_at().and_then(|at| Timestamp::try_from(at).ok()),
            instances: self.running_images().filter(|running| *running == image).count(),
            program: program(stored.defaults()),
        })
    }

    /// The images that instances run from, one for each instance.
    pub(super) fn running_images(&self) -> impl Iterator<Item = Sha256Digest> {
        let running = self
            .list()
            .into_iter()
            .filter(|instance| !instance.state.is_over());
        running.filter_map(|instance| instance.image.map(|image| image.digest.0))
    }
}

fn program(defaults: &ImageDefaults) -> ImageProgram {
    ImageProgram {
        entrypoint: defaults.entrypoint.clone(),
        cmd: defaults.cmd.clone(),
        env: defaults.env.keys().cloned().collect(),
        working_dir: defaults.working_dir.clone(),
        user: defaults.user.clone(),
        stop_signal: defaults.stop_signal.clone(),
        exposed_ports: defaults.exposed_ports.iter().map(ToString::to_string).collect(),
        volumes: defaults.volumes.clone(),
    }
}
