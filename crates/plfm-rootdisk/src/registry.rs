//! Images from a registry (the OCI distribution protocol), the one part of this crate that is asynchronous.
//!
//! ```text
//! reference --manifest--> index? --manifest by digest--> configuration, layers --Image::from_blobs--> Image
//!                                                          |
//!                           <sha256>.part, gone on with after a cut (Range), verified, renamed
//! ```
//!
//! A customer names the registry, so nothing it says is trusted: every answer has a bound in bytes and time, what is
//! taken is checked against the digest that led to it, and the tag's own answer is only believed as to which digest it
//! means.

mod auth;
mod client;
mod credentials;
mod download;
mod error;

use std::time::Duration;

use plfm_release::Sha256Digest;

use crate::image::{Image, verify};
use crate::limits::{CONFIG_BYTES_MAX, INDEX_DEPTH_MAX, Limits, MANIFEST_BYTES_MAX};
use crate::oci::{Descriptor, Document, Manifest, parse_document};
use crate::reference::Reference;
use crate::store::{BlobsClaim, Store};

pub use credentials::{Credentials, CredentialsError, DockerConfig};
pub use error::FetchError;

use client::Client;
use download::Download;

/// Redirects of one request: one to a store of blobs is usual.
const REDIRECTS_MAX: usize = 5;

/// What a pull says as it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The blob that bytes came of.
    pub blob: Sha256Digest,
    /// Bytes of it that are here, with those of an earlier try.
    pub bytes: u64,
    /// Bytes that came just now.
    pub arrived: u64,
    /// Bytes that it has.
    pub size_bytes: u64,
    /// Which layer it is, from 1; 0 for the configuration.
    pub layer: usize,
    /// Of how many layers.
    pub layers: usize,
}

/// How registries are spoken to.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Registries that are spoken to without TLS: whoever is on the way sees the credentials and can refuse images, but
    /// not change ones that are pinned by digest.
    pub plaintext_registries: Vec<String>,
    /// How long a registry may be silent.
    pub silence_max: Duration,
    /// How often a blob is tried; what came by then is kept.
    pub tries_max: u32,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            plaintext_registries: Vec::new(),
            silence_max: Duration::from_secs(30),
            tries_max: 5,
        }
    }
}

/// Fetches images into a store.
#[derive(Debug)]
pub struct Puller {
    store: Store,
    options: RegistryOptions,
    limits: Limits,
    http: reqwest::Client,
}

/// An image that was fetched. Its layers stay until this goes.
#[derive(Debug)]
pub struct FetchedImage {
    image: Image,
    reference: Reference,
    store: Store,
    claim: Option<BlobsClaim>,
}

impl FetchedImage {
    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Its reference, with the digest that the tag meant: the index's, if it has one.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }
}

impl Drop for FetchedImage {
    fn drop(&mut self) {
        drop(self.claim.take());
        // Layers are of no use once the disk is built, and of little if it is not; gc removes what this cannot.
        let _ = self.store.trim_blobs(false);
    }
}

impl Puller {
    /// Makes a puller for a store.
    ///
    /// # Errors
    /// [`FetchError`] if there is no TLS on this host.
    pub fn new(store: &Store, options: RegistryOptions, limits: Limits) -> Result<Self, FetchError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("plfm/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.silence_max)
            .read_timeout(options.silence_max)
            .redirect(redirects())
            .build()
            .map_err(|source| FetchError::request("this host", source))?;
        Ok(Self {
            store: store.clone(),
            options,
            limits,
            http,
        })
    }

    /// Which digest a reference means now: the one that it has, or the one that the registry gives its tag.
    ///
    /// # Errors
    /// [`FetchError`]: the registry cannot be reached, does not have the image or refuses it.
    pub async fn resolve(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Sha256Digest, FetchError> {
        if let Some(digest) = reference.digest() {
            return Ok(digest);
        }
        let mut client = self.client(reference, credentials)?;
        let (bytes, _) = client
            .manifest(reference.tag().unwrap_or_default(), MANIFEST_BYTES_MAX)
            .await?;
        Ok(Sha256Digest::of(&bytes))
    }

    /// Fetches an image: its documents, and what is not here yet of its layers. Dropping the future stops it; the next
    /// call goes on where it was.
    ///
    /// # Errors
    /// [`FetchError`]: as [`Puller::resolve`], or the image is not one that instances can run, or not what its digests
    /// say.
    pub async fn fetch(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        on_progress: &mut (dyn FnMut(Fetched) + Send),
    ) -> Result<FetchedImage, FetchError> {
        let mut client = self.client(reference, credentials)?;
        let claim = self.store.claim_blobs()?;
        let (pinned, descriptor, bytes, manifest) = self.find_manifest(reference, &mut client).await?;
        manifest
            .check_size(&self.limits)
            .map_err(|source| FetchError::document(reference, source))?;
        let blobs = self.store.blobs();
        download::keep(&blobs, descriptor.digest, &bytes)?;
        let layers = manifest.layers.iter().map(|(layer, _)| layer);
        for (layer, blob) in std::iter::once(&manifest.config).chain(layers).enumerate() {
            let download = Download {
                blobs: &blobs,
                descriptor: blob,
                layer,
                layers: manifest.layers.len(),
                tries_max: self.options.tries_max,
            };
            download.run(&mut client, on_progress).await?;
        }
        let image = Image::from_blobs(&blobs, &descriptor, &self.limits)?;
        Ok(FetchedImage {
            image,
            reference: reference.pinned(pinned),
            store: self.store.clone(),
            claim: Some(claim),
        })
    }

    fn client<'a>(
        &'a self,
        reference: &'a Reference,
        credentials: &'a Credentials,
    ) -> Result<Client<'a>, FetchError> {
        let is_plaintext = self
            .options
            .plaintext_registries
            .iter()
            .any(|name| name == reference.registry());
        Client::new(
            &self.http,
            reference,
            credentials,
            is_plaintext,
            self.options.silence_max,
        )
    }

    /// From a reference to the manifest for linux/amd64; first is the digest of what the reference itself means.
    async fn find_manifest(
        &self,
        reference: &Reference,
        client: &mut Client<'_>,
    ) -> Result<(Sha256Digest, Descriptor, Vec<u8>, Manifest), FetchError> {
        let document = |source| FetchError::document(reference, source);
        let mut wanted: Option<Descriptor> = None;
        let mut pinned = None;
        for _ in 0..INDEX_DEPTH_MAX {
            let digest = wanted
                .as_ref()
                .map(|descriptor| descriptor.digest)
                .or(reference.digest());
            let name = match (&digest, reference.tag()) {
                (Some(digest), _) => format!("sha256:{digest}"),
                (None, tag) => tag.unwrap_or_default().to_owned(),
            };
            let (bytes, media_type) = client.manifest(&name, MANIFEST_BYTES_MAX).await?;
            let found = Descriptor {
                media_type: wanted
                    .as_ref()
                    .map_or(media_type, |descriptor| descriptor.media_type.clone()),
                digest: digest.unwrap_or_else(|| Sha256Digest::of(&bytes)),
                size_bytes: wanted
                    .as_ref()
                    .map_or(bytes.len() as u64, |descriptor| descriptor.size_bytes),
            };
            verify(&bytes, &found).map_err(document)?;
            let pinned = *pinned.get_or_insert(found.digest);
            match parse_document(&bytes, &found.media_type).map_err(document)? {
                Document::Index(index) => wanted = Some(index.choose().map_err(document)?.clone()),
                Document::Manifest(manifest) => return Ok((pinned, found, bytes, manifest)),
            }
        }
        let max = u64::from(INDEX_DEPTH_MAX);
        Err(document(crate::oci::DocumentError::Limit {
            what: "depth of indexes",
            max,
        }))
    }
}

/// Registries send to where their blobs are; what began with TLS goes on with it.
fn redirects() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let was_tls = attempt
            .previous()
            .last()
            .is_some_and(|url| url.scheme() == "https");
        if was_tls && attempt.url().scheme() != "https" {
            return attempt.error("a redirect from https to something else");
        }
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("too many redirects")
        } else {
            attempt.follow()
        }
    })
}

// A configuration is fetched as a blob; its bound was checked with the manifest.
const _: () = assert!(CONFIG_BYTES_MAX <= 64 << 20);
