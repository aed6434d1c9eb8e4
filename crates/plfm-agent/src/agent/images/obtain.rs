//! From a name to a disk: what is here is used, what is not is fetched and built.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use plfm_api::{PullPolicy, PullProgress, PullStep};
use plfm_release::Sha256Digest;
use plfm_rootdisk::registry::{DockerConfig, Fetched};
use plfm_rootdisk::{DiskFormat, Image, ImageName, Limits, Reference, Step, StoreError, StoredImage};
use tracing::warn;

use super::pull::{Told, at};
use super::refusal::{build_error, credentials_error, fetch_error, not_here, resolve_error, store_error};
use super::{Images, Obtained};
use crate::agent::{Agent, blocking};
use crate::problem::ApiError;

impl Agent {
    /// Brings an image here, unless it is.
    pub(super) async fn obtain(
        &self,
        name: &ImageName,
        policy: PullPolicy,
        told: &Told,
    ) -> Result<Obtained, ApiError> {
        let obtained = match name {
            ImageName::Registry(reference) => self.obtain_from_registry(reference, policy, told).await?,
            ImageName::Layout(..) | ImageName::Archive(..) => {
                self.obtain_from_disk(name, policy, told).await?
            }
        };
        let (agent, text, image) = (self.clone(), name.to_string(), Arc::clone(&obtained.image));
        // The name is a convenience, and so is the time: the image is here without them.
        blocking(move || {
            let images = &agent.0.images;
            let noted = images.store.remember(&text, image.key().image);
            if let Err(error) = noted.and_then(|()| image.note_use(SystemTime::now())) {
                warn!("image store: {error}");
            }
        })
        .await?;
        Ok(obtained)
    }

    /// From a layout or an archive. Which image it holds is looked up each time: it is here, and costs nothing.
    async fn obtain_from_disk(
        &self,
        name: &ImageName,
        policy: PullPolicy,
        told: &Told,
    ) -> Result<Obtained, ApiError> {
        told.send_modify(|state| state.progress = at(PullStep::Resolving));
        let (agent, wanted) = (self.clone(), name.clone());
        let (image, stored) = blocking(move || {
            let images = &agent.0.images;
            let image = resolve(&wanted, &images.limits)?;
            let stored = images.stored(image.digest())?;
            Ok::<_, ApiError>((image, stored))
        })
        .await??;
        match stored {
            Some(stored) => Ok(present(name, stored)),
            None if policy == PullPolicy::Never => Err(not_here(name)),
            None => self.build(name, image, told).await,
        }
    }

    async fn obtain_from_registry(
        &self,
        reference: &Reference,
        policy: PullPolicy,
        told: &Told,
    ) -> Result<Obtained, ApiError> {
        let name = ImageName::Registry(reference.clone());
        // What a digest means never changes, whatever the policy.
        let is_asked = policy == PullPolicy::Always && reference.digest().is_none();
        if !is_asked && let Some(stored) = self.known(reference).await? {
            return Ok(present(&name, stored));
        }
        if policy == PullPolicy::Never {
            return Err(not_here(&name));
        }
        let images = &self.0.images;
        let file = images.credentials.clone();
        let config = blocking(move || DockerConfig::load(&file))
            .await?
            .map_err(|error| credentials_error(&error))?;
        let credentials = config
            .credentials(reference)
            .map_err(|error| credentials_error(&error))?;
        let _place = images.fetches.acquire().await;
        told.send_modify(|state| state.progress = at(PullStep::Resolving));
        let digest = images
            .puller
            .resolve(reference, &credentials)
            .await
            .map_err(|error| fetch_error(&error))?;
        let pinned = reference.pinned(digest);
        if let Some(stored) = self.known(&pinned).await? {
            return Ok(present(&name, stored));
        }
        let metrics = &self.0.metrics;
        let mut on_progress = |fetched: Fetched| {
            metrics.image_fetched(fetched.arrived);
            told.send_modify(|state| {
                state.fetched_bytes = state.fetched_bytes.saturating_add(fetched.arrived);
                state.progress = fetching(&fetched);
            });
        };
        let fetched = images.puller.fetch(&pinned, &credentials, &mut on_progress).await;
        let fetched = fetched.map_err(|error| fetch_error(&error))?;
        let built = self.build(&name, fetched.image().clone(), told).await;
        let (agent, image) = (
            self.clone(),
            built.as_ref().ok().map(|built| built.image.key().image),
        );
        blocking(move || {
            // Which image the index meant: the next look at the tag then costs one small document.
            if let Some(image) = image
                && let Err(error) = agent.0.images.store.remember(&pinned.to_string(), image)
            {
                warn!("image store: {error}");
            }
            drop(fetched);
        })
        .await?;
        built
    }

    /// What the host has under a registry's name.
    async fn known(&self, reference: &Reference) -> Result<Option<StoredImage>, ApiError> {
        let (agent, reference) = (self.clone(), reference.clone());
        blocking(move || {
            let images = &agent.0.images;
            let meaning = images.store.meaning(&reference.to_string());
            let meaning = meaning.map_err(|error| store_error(&error))?;
            match meaning.or(reference.digest()) {
                Some(digest) => images.stored(digest),
                None => Ok(None),
            }
        })
        .await?
    }

    async fn build(&self, name: &ImageName, image: Image, told: &Told) -> Result<Obtained, ApiError> {
        told.send_modify(|state| state.progress = at(PullStep::Waiting));
        let place = Arc::clone(&self.0.images.builds).acquire_owned().await;
        let (agent, told) = (self.clone(), Arc::clone(told));
        let built = blocking(move || {
            // Held by who works, not by who waits: a build that nobody waits for any more takes its place to its end.
            let _place = place;
            let images = &agent.0.images;
            let room = agent.make_room(image.compressed_bytes())?;
            let limits = Limits {
                unpacked_bytes_max: images.limits.unpacked_bytes_max.min(room),
                ..images.limits.clone()
            };
            let started = Instant::now();
            let mut on_step = |step| told.send_modify(|state| state.progress = building(step));
            let built = images
                .store
                .build(&image, DiskFormat::Erofs, &limits, &mut on_step);
            let built = built
                .map_err(|error: StoreError| build_error(&error, room < images.limits.unpacked_bytes_max))?;
            agent.0.metrics.image_built(started.elapsed());
            Ok::<_, ApiError>(built)
        })
        .await??;
        Ok(Obtained {
            name: name.to_string(),
            image: Arc::new(built),
            built: true,
        })
    }
}

impl Images {
    /// The disk of an image, if there is one; of several the one that the newest builder made. Blocking.
    pub(super) fn stored(&self, image: Sha256Digest) -> Result<Option<StoredImage>, ApiError> {
        let stored = self.store.of_image(image).map_err(|error| store_error(&error))?;
        let ours = stored
            .into_iter()
            .filter(|stored| stored.key().format == DiskFormat::Erofs);
        Ok(ours.max_by_key(|stored| stored.key().builder))
    }
}

fn present(name: &ImageName, stored: StoredImage) -> Obtained {
    Obtained {
        name: name.to_string(),
        image: Arc::new(stored),
        built: false,
    }
}

/// The image of a layout or an archive. Blocking.
fn resolve(name: &ImageName, limits: &Limits) -> Result<Image, ApiError> {
    let image = match name {
        ImageName::Layout(path, name) => Image::from_layout(path, name.as_deref(), limits),
        ImageName::Archive(path, name) => Image::from_archive(path, name.as_deref(), limits),
        ImageName::Registry(_) => return Err(not_here(name)),
    };
    image.map_err(|error| resolve_error(&error))
}

fn fetching(fetched: &Fetched) -> PullProgress {
    PullProgress {
        step: PullStep::Fetching,
        layer: fetched.layer,
        layers: fetched.layers,
        bytes_done: fetched.bytes,
        bytes_total: fetched.size_bytes,
    }
}

fn building(step: Step) -> PullProgress {
    match step {
        Step::Wait => at(PullStep::Waiting),
        Step::Write => at(PullStep::Writing),
        Step::Layer { number, count } => PullProgress {
            layer: number,
            layers: count,
            ..at(PullStep::Unpacking)
        },
    }
}
