//! What the registry has becomes facts: releases found, releases withdrawn.
//!
//! Only metadata and manifests are fetched, never a kernel or an initramfs. What is listed counts only if a key of the
//! delivered keyring signed it, for this channel.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use plfm_api::control::Actor;
use plfm_registry::fetch::{
    FetchError, FetchRequest, OpenError, ROOT_BYTES_MAX, RegistryClient, Settings, TrustedView,
};
use plfm_release::{Architecture, Keyring, ReleaseId, Sha256Digest, VerifiedManifest, VerifyPolicy};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::control::pace::{random, spread};
use crate::control::{Control, ControlError};
use crate::fleet::{Command, FoundRelease, ReleaseRecord};
use crate::init::system;
use crate::serve::ended_within;
use crate::server::chain;
use crate::settings::RegistrySettings;

/// Machines that a release may be for.
const ARCHITECTURES: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];

/// The registry cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The root metadata.
    #[error("cannot read the registry's root metadata {} (--registry-root names it)", .0.display())]
    Root(PathBuf, #[source] std::io::Error),
    /// The directory.
    #[error("cannot make the directory {}", .0.display())]
    Dir(PathBuf, #[source] std::io::Error),
    /// What was trusted before.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Follows a registry.
pub struct RegistryFollower {
    client: RegistryClient,
    settings: RegistrySettings,
    actor: Actor,
    /// Listed releases that do not count, and why: said once.
    refused: BTreeMap<ReleaseId, String>,
}

impl RegistryFollower {
    /// Opens what was trusted before.
    pub fn open(settings: RegistrySettings) -> Result<Self, FollowError> {
        let fault = |error| FollowError::Root(settings.root.clone(), error);
        let mut root = Vec::new();
        let file = std::fs::File::open(&settings.root).map_err(fault)?;
        file.take(ROOT_BYTES_MAX).read_to_end(&mut root).map_err(fault)?;
        let dir = settings.state_dir.clone();
        std::fs::create_dir_all(&dir).map_err(|error| FollowError::Dir(dir.clone(), error))?;
        let told = Settings::new(settings.mirrors.clone(), dir, built_at(), Arc::new(random));
        Ok(Self {
            client: RegistryClient::open(told, &root)?,
            actor: system("registry"),
            settings,
            refused: BTreeMap::new(),
        })
    }

    /// Asks the registry now and then until `shutdown`.
    pub async fn follow(mut self, control: Control, shutdown: CancellationToken) {
        let mut was_well = true;
        loop {
            let result = self.look(&control).await;
            control
                .metrics()
                .registry_update(result.as_ref().err().map_or("ok", |problem| problem.code));
            match result {
                Ok(()) => was_well = true,
                Err(problem) if was_well => {
                    warn!(
                        code = problem.code,
                        "the registry was not read: {}", problem.detail
                    );
                    was_well = false;
                }
                Err(_) => {}
            }
            if ended_within(spread(self.settings.every, random()), &shutdown).await {
                return;
            }
        }
    }

    async fn look(&mut self, control: &Control) -> Result<(), Problem> {
        let view = self
            .client
            .update(Timestamp::now())
            .await
            .map_err(|error| Problem {
                code: error.code(),
                detail: chain(&error),
            })?;
        let Some(keyring) = self.client.trusted_keyring() else {
            return Err(Problem {
                code: "keyring_missing",
                detail: "the registry has no keyring yet".to_owned(),
            });
        };
        let listed: Vec<ReleaseId> = view.releases().into_iter().map(|listed| listed.id).collect();
        self.refused.retain(|release, _| listed.contains(release));
        self.withdraw(control, &listed, keyring.keyring()).await?;
        for release in &listed {
            let fleet = control.fleet();
            let known = fleet.releases().get(release);
            if known.is_none_or(|record| is_found_again(record, keyring.keyring())) {
                drop(fleet);
                self.find(control, &view, release, keyring.keyring()).await?;
            }
        }
        Ok(())
    }

    async fn find(
        &mut self,
        control: &Control,
        view: &TrustedView,
        release: &ReleaseId,
        keyring: &Keyring,
    ) -> Result<(), Problem> {
        match self.manifest(view, release, keyring).await {
            Ok(found) => {
                self.refused.remove(release);
                self.submit(control, Command::FindRelease(found)).await
            }
            Err(error) => {
                let why = chain(&error);
                if self.refused.get(release) != Some(&why) {
                    warn!(code = error.code(), %release, "a release that the registry lists does not count: {why}");
                    self.refused.insert(release.clone(), why);
                }
                Ok(())
            }
        }
    }

    /// What a release's manifest says, once it is verified.
    async fn manifest(
        &self,
        view: &TrustedView,
        release: &ReleaseId,
        keyring: &Keyring,
    ) -> Result<FoundRelease, FetchError> {
        let mut refused = None;
        for arch in ARCHITECTURES {
            let policy = VerifyPolicy {
                channel: self.settings.channel.clone(),
                arch,
                at: Timestamp::now(),
            };
            let request = FetchRequest {
                release,
                keyring,
                policy: &policy,
                // Hosts fetch the artifacts; here all that is wanted is the manifest.
                is_here: &|_| true,
                progress: &|_| {},
            };
            match self.client.fetch_release(view, request).await {
                Ok(fetched) => return Ok(found(release, fetched.manifest())),
                Err(error) if error.code() == "manifest_wrong_architecture" => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or(FetchError::Unknown(Box::new(release.clone()))))
    }

    /// Withdraws what is gone, and what nobody vouches for any more.
    async fn withdraw(
        &self,
        control: &Control,
        listed: &[ReleaseId],
        keyring: &Keyring,
    ) -> Result<(), Problem> {
        let fleet = control.fleet();
        let gone: Vec<Command> = fleet
            .releases()
            .iter()
            .filter(|(_, record)| record.withdrawn.is_none())
            .filter_map(|(release, record)| {
                let reason = if listed.contains(release) {
                    untrusted(record, keyring)?
                } else {
                    "the registry does not list it any more".to_owned()
                };
                Some(Command::WithdrawRelease {
                    release: release.clone(),
                    reason,
                })
            })
            .collect();
        drop(fleet);
        for command in gone {
            self.submit(control, command).await?;
        }
        Ok(())
    }

    async fn submit(&self, control: &Control, command: Command) -> Result<(), Problem> {
        match control.execute(&command, &self.actor).await {
            Ok(done) => {
                if !done.decision.facts.is_empty() {
                    info!("{}", done.decision.summary);
                }
                Ok(())
            }
            Err(error) => Err(problem(&error)),
        }
    }
}

/// Why nothing came of it.
struct Problem {
    code: &'static str,
    detail: String,
}

fn problem(error: &ControlError) -> Problem {
    Problem {
        code: "not_kept",
        detail: chain(error),
    }
}

/// Whether a known release is to be looked at again: it was withdrawn, and may be vouched for now.
fn is_found_again(record: &ReleaseRecord, keyring: &Keyring) -> bool {
    record.withdrawn.is_some() && untrusted(record, keyring).is_none()
}

/// Why a release's key is not to be trusted, if it is not. A key that ended vouches for what it signed.
fn untrusted(record: &ReleaseRecord, keyring: &Keyring) -> Option<String> {
    let key_id = record.found.key_id;
    match keyring.get(key_id) {
        None => Some(format!("its key {key_id} is not in the keyring any more")),
        Some(entry) => entry
            .revoked
            .as_ref()
            .map(|revocation| format!("its key {key_id} was revoked: {}", revocation.reason)),
    }
}

fn found(release: &ReleaseId, verified: &VerifiedManifest) -> FoundRelease {
    let manifest = verified.manifest();
    FoundRelease {
        release: release.clone(),
        arch: manifest.arch,
        protocol: manifest.initramfs.guest_init_protocol,
        compatibility: manifest.compatibility.clone(),
        manifest_sha256: Sha256Digest::of(verified.as_bytes()),
        key_id: verified.key_id(),
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
