//! Pulls from registries that cut, lie and ask for passwords.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use plfm_guest_protocol::Sensitive;
use plfm_rootdisk::registry::{Credentials, FetchError, FetchedImage, Puller, RegistryOptions};
use plfm_rootdisk::{DiskFormat, Limits, Reference, Store};
use serde_json::{Value, json};

use crate::fake_registry::{Answer, FakeRegistry, Request};
use crate::images::{Layout, MANIFEST, Packed};
use crate::tarball::{file, tar};

/// An image in a layout, for a fake to serve: its directory and its manifest's descriptor.
fn image(path: &Path) -> Value {
    let mut layout = Layout::new(path);
    let noise: Vec<u8> = (0..600_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let image = layout.image(&[tar(&[file("x", noise)])], Packed::Plain, json!({"Cmd": ["/x"]}));
    layout.add(image.clone(), Some("t"));
    image
}

/// What an honest registry answers.
fn honest(path: &Path, manifest: &Value, request: &Request) -> Answer {
    let digest = request.path.rsplit('/').next().unwrap();
    let digest = if digest == "t" {
        manifest["digest"].as_str().unwrap()
    } else {
        digest
    };
    match std::fs::read(
        path.join("blobs/sha256")
            .join(digest.trim_start_matches("sha256:")),
    ) {
        Ok(bytes) => ranged(bytes, request),
        Err(_) => Answer::new(404, "{}"),
    }
}

fn ranged(bytes: Vec<u8>, request: &Request) -> Answer {
    let start = request
        .headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match start {
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            Answer::new(206, &bytes[start..]).header("content-range", &range)
        }
        None => Answer::new(200, bytes).header("content-type", MANIFEST),
    }
}

struct Pull {
    directory: tempfile::TempDir,
    store: Store,
}

impl Pull {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("images")).unwrap();
        Self { directory, store }
    }

    fn layout(&self) -> std::path::PathBuf {
        self.directory.path().join("layout")
    }

    async fn fetch(
        &self,
        host: &str,
        credentials: &Credentials,
        tries_max: u32,
    ) -> Result<FetchedImage, FetchError> {
        let options = RegistryOptions {
            plaintext_registries: vec![host.to_owned()],
            silence_max: Duration::from_secs(10),
            tries_max,
        };
        let puller = Puller::new(&self.store, options, Limits::default()).unwrap();
        let reference: Reference = format!("{host}/app:t").parse().unwrap();
        puller.fetch(&reference, credentials, &mut |_| {}).await
    }
}

#[tokio::test]
async fn a_pulled_image_becomes_a_disk_and_its_blobs_go() {
    let pull = Pull::new();
    let (path, manifest) = (pull.layout(), image(&pull.layout()));
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    let registry = FakeRegistry::start(move |request, _| honest(&path, &manifest, request));
    let fetched = pull
        .fetch(&registry.host, &Credentials::Anonymous, 1)
        .await
        .unwrap();
    assert_eq!(
        fetched.reference().to_string(),
        format!("{}/app:t@{digest}", registry.host)
    );
    let stored = pull
        .store
        .build(
            fetched.image(),
            DiskFormat::Erofs,
            &Limits::default(),
            &mut |_| {},
        )
        .unwrap();
    assert_eq!(stored.defaults().cmd, ["/x"]);
    drop(fetched);
    let blobs = pull.directory.path().join("images/.blobs/sha256");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
}

#[tokio::test]
async fn a_cut_layer_is_gone_on_with_where_it_was() {
    let pull = Pull::new();
    let (path, manifest) = (pull.layout(), image(&pull.layout()));
    let registry = FakeRegistry::start(move |request, _| {
        let mut answer = honest(&path, &manifest, request);
        if request.path.contains("/blobs/") && answer.body.len() > 200_000 {
            answer.said_length = Some(answer.body.len());
            answer.body.truncate(150_000);
        }
        answer
    });
    pull.fetch(&registry.host, &Credentials::Anonymous, 2)
        .await
        .unwrap();
    let ranges: Vec<String> = registry
        .seen()
        .iter()
        .filter_map(|request| request.headers.get("range").cloned())
        .collect();
    assert!(
        ranges.len() >= 2 && ranges.is_sorted_by_key(|range| range.len()),
        "{ranges:?}"
    );
    assert!(ranges[0].as_str() != "bytes=0-");
}

#[tokio::test]
async fn the_next_pull_goes_on_with_what_a_failed_one_left() {
    let pull = Pull::new();
    let (path, manifest) = (pull.layout(), image(&pull.layout()));
    let blobs = AtomicUsize::new(0);
    let registry = FakeRegistry::start(move |request, _| {
        let mut answer = honest(&path, &manifest, request);
        let is_large = request.path.contains("/blobs/") && answer.body.len() > 100_000;
        if is_large {
            match blobs.fetch_add(1, Ordering::SeqCst) {
                0 => {
                    answer.said_length = Some(answer.body.len());
                    answer.body.truncate(100_000);
                }
                1 => return Answer::new(403, ""),
                _ => {}
            }
        }
        answer
    });
    pull.fetch(&registry.host, &Credentials::Anonymous, 3)
        .await
        .unwrap_err();
    let before = registry.seen().len();
    pull.fetch(&registry.host, &Credentials::Anonymous, 1)
        .await
        .unwrap();
    let ranges: Vec<Request> = registry
        .seen()
        .drain(before..)
        .filter(|request| request.headers.contains_key("range"))
        .collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
}

#[tokio::test]
async fn other_bytes_than_the_digests_are_refused_and_not_kept() {
    let pull = Pull::new();
    let (path, manifest) = (pull.layout(), image(&pull.layout()));
    let registry = FakeRegistry::start(move |request, _| {
        let mut answer = honest(&path, &manifest, request);
        if request.path.contains("/blobs/") {
            answer.body[0] ^= 1;
        }
        answer
    });
    let error = pull
        .fetch(&registry.host, &Credentials::Anonymous, 1)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "image_digest_mismatch");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_manifest_without_end_is_refused() {
    let registry = FakeRegistry::start(|_, _| Answer::new(200, vec![b' '; 5 << 20]));
    let error = Pull::new()
        .fetch(&registry.host, &Credentials::Anonymous, 1)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_failed");
    assert!(error.to_string().contains("larger"), "{error}");
}

fn password() -> Credentials {
    Credentials::Password {
        username: "me".to_owned(),
        password: Sensitive::new("hunter2"),
    }
}

/// `me:hunter2`.
const BASIC: &str = "Basic bWU6aHVudGVyMg==";

#[tokio::test]
async fn a_token_is_fetched_with_the_password_and_shown_to_the_registry() {
    let pull = Pull::new();
    let (path, manifest) = (pull.layout(), image(&pull.layout()));
    let registry = FakeRegistry::start(move |request, host| {
        let shown = request.headers.get("authorization").map(String::as_str);
        if request
            .path
            .starts_with("/token?scope=repository%3Aapp%3Apull&service=s")
        {
            return match shown {
                Some(BASIC) => Answer::new(200, r#"{"token":"tok"}"#),
                _ => Answer::new(401, ""),
            };
        }
        if shown != Some("Bearer tok") {
            let challenge = format!(r#"Bearer realm="http://{host}/token",service="s""#);
            return Answer::new(401, "").header("www-authenticate", &challenge);
        }
        honest(&path, &manifest, request)
    });
    let error = pull
        .fetch(&registry.host, &Credentials::Anonymous, 1)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry_unauthorized");
    pull.fetch(&registry.host, &password(), 1).await.unwrap();
}

#[tokio::test]
async fn a_password_is_shown_only_when_it_is_asked_for_and_is_in_no_error() {
    let pull = Pull::new();
    let registry =
        FakeRegistry::start(|_, _| Answer::new(401, "").header("www-authenticate", "Basic realm=x"));
    let error = pull.fetch(&registry.host, &password(), 1).await.unwrap_err();
    assert_eq!(error.code(), "registry_unauthorized");
    assert!(!format!("{error:?}").contains("hunter2"));
    let shown: Vec<bool> = registry
        .seen()
        .iter()
        .map(|request| request.headers.contains_key("authorization"))
        .collect();
    assert_eq!(shown, [false, true]);
}
