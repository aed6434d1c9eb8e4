//! Releases from the registry: asking it, and fetching from it.
//!
//! What it says is verified by `plfm_registry::fetch`. While it cannot be read, the host goes on with what it has: no
//! boot ever waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use axum::http::StatusCode;
use jiff::Timestamp;
use plfm_api::{AvailableRelease, FetchRelease, Fetching, Registry, RegistryProblem, Release};
use plfm_registry::fetch::{FetchError, FetchRequest, ListedRelease, RegistryClient, Settings, TrustedView};
use plfm_release::{Architecture, Keyring, ReleaseId, VerifyPolicy};
use tracing::warn;

use super::{Agent, blocking, read_bounded};
use crate::problem::{ApiError, chain};

/// Largest root metadata, in bytes.
const ROOT_BYTES_MAX: u64 = 512 * 1024;

/// The link to a registry.
pub struct RegistryLink {
    client: RegistryClient,
    mirrors: Vec<String>,
    view: RwLock<Option<Arc<TrustedView>>>,
    problem: Mutex<Option<RegistryProblem>>,
    fetching: Mutex<BTreeMap<ReleaseId, Fetching>>,
}

impl RegistryLink {
    /// Opens what was trusted before. `None` where the agent is told of no registry.
    pub fn open(settings: &crate::settings::Settings) -> anyhow::Result<Option<Self>> {
        if settings.registry.is_empty() {
            return Ok(None);
        }
        let root = read_bounded(&settings.registry_root, ROOT_BYTES_MAX).with_context(|| {
            let path = settings.registry_root.display();
            format!("cannot read the registry's root metadata {path} (--registry-root names it)")
        })?;
        let dir = settings.state_dir.join("registry");
        let random = Arc::new(|| getrandom::u64().unwrap_or(0));
        let told = Settings::new(settings.registry.clone(), dir, built_at(), random);
        let mirrors = settings.registry.iter().map(ToString::to_string).collect();
        Ok(Some(Self {
            client: RegistryClient::open(told, &root).context("cannot use the registry")?,
            mirrors,
            view: RwLock::default(),
            problem: Mutex::default(),
            fetching: Mutex::default(),
        }))
    }

    /// The keyring that a threshold of the registry's root keys signed, as it was trusted last.
    pub fn keyring(&self) -> Option<Keyring> {
        self.client
            .trusted_keyring()
            .map(|verified| verified.keyring().clone())
    }

    /// Notes the problem of the last attempt, or that it had none.
    fn note(&self, problem: Option<(&'static str, String)>) {
        let problem = problem.map(|(code, detail)| {
            warn!(code, "the registry was not read, or not to its end: {detail}");
            RegistryProblem {
                code: code.to_owned(),
                detail,
                at: Timestamp::now(),
            }
        });
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn view(&self) -> Option<Arc<TrustedView>> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fetching(&self) -> std::sync::MutexGuard<'_, BTreeMap<ReleaseId, Fetching>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When this program was built, as far as it can tell: no clock that is right is before it.
fn built_at() -> Timestamp {
    let executable = std::env::current_exe().and_then(std::fs::metadata);
    let modified = executable.and_then(|metadata| metadata.modified()).ok();
    modified
        .and_then(|at| Timestamp::try_from(at).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Agent {
    fn link(&self) -> Result<&RegistryLink, ApiError> {
        self.0.registry.as_ref().ok_or_else(|| {
            ApiError::conflict("no_registry", "this agent is told of no registry")
                .hint("start it with --registry URL, or install from a directory with `plfm release install`")
        })
    }

    /// Asks the registry for what is new, now and then, until the agent ends.
    pub async fn follow_registry(self) {
        if self.0.registry.is_none() {
            return;
        }
        loop {
            // The problem is in the log and in the registry's state; the next round may be luckier.
            let _ = self.refresh_registry().await;
            tokio::time::sleep(spread(self.0.settings.registry_poll_seconds)).await;
        }
    }

    /// Asks the registry for what is new, and trusts the keys that it says.
    pub async fn refresh_registry(&self) -> Result<Registry, ApiError> {
        let link = self.link()?;
        match link.client.update(Timestamp::now()).await {
            Ok(view) => {
                for failure in view.failures() {
                    warn!("a mirror of the registry was passed over: {failure}");
                }
                *link.view.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(view));
                let trusted = self.trust_keys();
                link.note(
                    trusted
                        .as_ref()
                        .err()
                        .map(|error| (error.code(), error.detail().to_owned())),
                );
                trusted?;
                self.registry().await
            }
            Err(error) => {
                let (code, detail) = (error.code(), chain(&error));
                link.note(Some((code, detail)));
                Err(registry_error(code, &error))
            }
        }
    }

    /// What the registry said last.
    pub async fn registry(&self) -> Result<Registry, ApiError> {
        let agent = self.clone();
        let link = self.link()?;
        let view = link.view();
        let listed = view.as_ref().map(|view| view.releases()).unwrap_or_default();
        let installed = blocking(move || agent.installed_ids()).await??;
        let available = |ListedRelease { id, size_bytes }| AvailableRelease {
            installed: installed.contains(&id),
            id,
            size_bytes,
        };
        Ok(Registry {
            mirrors: link.mirrors.clone(),
            updated_at: link.client.updated_at(),
            expires_at: view.as_ref().map(|view| view.expires_at()),
            keyring_version: link.client.trusted_keyring().map(|keyring| keyring.version()),
            problem: link
                .problem
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            releases: listed.into_iter().map(available).collect(),
            fetching: link.fetching().values().cloned().collect(),
        })
    }

    /// Why the registry could not be read last, for the control plane. Without what changes from one attempt to the next.
    pub(super) fn registry_problem(&self) -> Option<String> {
        let link = self.0.registry.as_ref()?;
        let problem = link.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = problem.as_ref()?;
        Some(format!(
            "the registry was not read: {} ({})",
            problem.detail, problem.code
        ))
    }

    /// Fetches a release and installs it.
    pub async fn fetch(&self, request: FetchRelease) -> Result<Release, ApiError> {
        let fetched = self.try_fetch(request).await;
        self.note_refusal(&fetched);
        fetched
    }

    async fn try_fetch(&self, request: FetchRelease) -> Result<Release, ApiError> {
        let link = self.link()?;
        let refreshed = self.refresh_registry().await;
        let view = match (refreshed, link.view()) {
            (Ok(_), Some(view)) => view,
            // What was fresh is fresh until it expires, even if nobody answers now.
            (Err(_), Some(view)) if Timestamp::now() < view.expires_at() => view,
            (Err(error), _) => return Err(error),
            (Ok(_), None) => return Err(ApiError::internal("internal", "the registry has no view")),
        };
        let id = find_listed(&view, &request.release)?;
        let agent = self.clone();
        let shown = Shown::begin(self.clone(), id.clone());
        let (keyring, cache) = (self.0.cache.keyring(), self.0.cache.clone());
        let policy = VerifyPolicy {
            channel: self.0.settings.channel.clone(),
            arch: Architecture::X86_64,
            at: Timestamp::now(),
        };
        let fetched = link
            .client
            .fetch_release(
                &view,
                FetchRequest {
                    release: &id,
                    keyring: &keyring,
                    policy: &policy,
                    is_here: &|artifact| cache.has(artifact),
                    progress: &|progress| shown.note(progress.bytes_done, progress.bytes_total),
                },
            )
            .await
            .map_err(|error| fetch_error(&error))?;
        blocking(move || {
            let mut open = |artifact: &plfm_release::Artifact| -> std::io::Result<Box<dyn std::io::Read>> {
                Ok(Box::new(fetched.open(artifact.kind)?))
            };
            agent.stage_and_install(fetched.manifest(), &mut open, request.make_current)
        })
        .await?
    }
}

/// A fetch that is shown to those who ask, until it is dropped.
struct Shown {
    agent: Agent,
    id: ReleaseId,
}

impl Shown {
    fn begin(agent: Agent, id: ReleaseId) -> Self {
        let shown = Self { agent, id };
        shown.note(0, 0);
        shown
    }

    fn note(&self, bytes_done: u64, bytes_total: u64) {
        if let Some(link) = &self.agent.0.registry {
            let fetching = Fetching {
                id: self.id.clone(),
                bytes_done,
                bytes_total,
            };
            let before = link.fetching().insert(self.id.clone(), fetching);
            let before = before.map_or(0, |fetching| fetching.bytes_done);
            self.agent.0.metrics.downloaded(bytes_done.saturating_sub(before));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(link) = &self.agent.0.registry {
            link.fetching().remove(&self.id);
        }
    }
}

fn find_listed(view: &TrustedView, text: &str) -> Result<ReleaseId, ApiError> {
    let mut matching: Vec<ReleaseId> = view
        .releases()
        .into_iter()
        .map(|listed| listed.id)
        .filter(|id| id.matches(text))
        .collect();
    if matching.len() > 1 {
        let ids: Vec<String> = matching.iter().map(ToString::to_string).collect();
        let detail = format!("{text:?} could be any of {}", ids.join(", "));
        return Err(ApiError::conflict("release_ambiguous", detail).hint("give the whole id"));
    }
    matching.pop().ok_or_else(|| {
        ApiError::not_found("release_unknown", format!("the registry has no release {text:?}"))
            .hint("see `plfm release available`")
    })
}

/// Every host for itself, a tenth earlier or later, so that a fleet does not come at once.
fn spread(seconds: u64) -> Duration {
    let ms = seconds.saturating_mul(1_000).max(100);
    let share = super::random() % (ms / 5 + 1);
    Duration::from_millis(ms - ms / 10 + share)
}

/// An error of the registry: nobody there or too slow may pass, all else is a refusal.
fn registry_error(code: &'static str, error: &dyn std::error::Error) -> ApiError {
    match code {
        "registry_unreachable" | "registry_too_slow" | "registry_expired" => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, chain(error))
        }
        _ => ApiError::refused(code, error),
    }
}

fn fetch_error(error: &FetchError) -> ApiError {
    match error {
        FetchError::Unknown(_) => {
            ApiError::not_found(error.code(), chain(error)).hint("see `plfm release available`")
        }
        FetchError::Disk(_) => ApiError::internal(error.code(), chain(error)),
        FetchError::Download(_) => match error.code() {
            code @ ("artifact_wrong_digest" | "artifact_wrong_length") => ApiError::refused(code, error),
            code => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, chain(error)),
        },
        FetchError::StaleView { .. }
        | FetchError::MissingPart { .. }
        | FetchError::Manifest { .. }
        | FetchError::Untrusted { .. }
        | FetchError::OtherRelease { .. }
        | FetchError::Mixed { .. } => registry_error(error.code(), error),
    }
}
