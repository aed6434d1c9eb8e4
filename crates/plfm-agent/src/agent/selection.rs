//! What a new instance boots: the decision is plfm-rollout's, the facts are here.
//!
//! A bounded canary is counted only when all else about the boot is settled, right before its VM is made: a request that is
//! refused wastes none of the few boots that a rollout begins with. Whoever comes too late for the last of them chooses again.

use std::collections::BTreeMap;

use plfm_api::CreateInstance;
use plfm_cache::{InstalledRelease, ReleaseError};
use plfm_release::ReleaseId;
use plfm_rollout::selection::{
    Begun, NewInstance, NoRelease, Obstacle, OnHost, PassedOver, Policy, Reason, Selection, Standing,
    candidates, select_release,
};

use super::control::BeginError;
use super::{Agent, Obtained, cache_error};
use crate::instance::{BootPlan, Chosen};
use crate::problem::{ApiError, chain};

/// The instance that is to boot, as its request has it.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    id: &'a str,
    name: Option<&'a str>,
    /// The release, perhaps abbreviated.
    release: Option<&'a str>,
}

fn wanted<'a>(id: &'a str, request: &'a CreateInstance) -> Wanted<'a> {
    Wanted {
        id,
        name: request.name.as_deref(),
        release: request.release.as_deref(),
    }
}

/// What was looked up for one decision.
struct Facts {
    releases: BTreeMap<ReleaseId, Result<InstalledRelease, ReleaseError>>,
    host: OnHost,
    /// Why it is not known what is current.
    current_problem: Option<ReleaseError>,
}

impl Agent {
    fn policy(&self) -> Policy {
        self.control().map(|control| control.policy()).unwrap_or_default()
    }

    /// Plans an instance's boot, and counts it where it is of a bounded canary. Blocking.
    pub(super) fn plan_boot(
        &self,
        request: CreateInstance,
        image: Option<Obtained>,
    ) -> Result<BootPlan, ApiError> {
        let started = std::time::Instant::now();
        let id = ulid::Ulid::generate().to_string();
        let policy = self.policy();
        let chosen = self.choose_release(wanted(&id, &request), image, &policy, None)?;
        let dns = self.settings().dns.clone();
        let plan = BootPlan::new(id, chosen, request, dns, started)?;
        match self.begin(&plan.selection, &policy) {
            Ok(()) => Ok(plan),
            // At most once: with this no canary is chosen any more.
            Err(missed) => {
                let BootPlan {
                    id,
                    request,
                    image,
                    dns,
                    ..
                } = plan;
                let chosen = self.choose_release(wanted(&id, &request), image, &policy, Some(missed))?;
                BootPlan::new(id, chosen, request, dns, started)
            }
        }
    }

    /// Counts a boot that was chosen as a canary's; otherwise there is nothing to count.
    fn begin(&self, selection: &Selection, policy: &Policy) -> Result<(), Begun> {
        let Some(control) = self.control().filter(|_| selection.reason == Reason::Canary) else {
            return Ok(());
        };
        control.begin_canary(policy).map_err(|error| match error {
            BeginError::UsedUp => Begun::Boots(u32::MAX),
            error @ (BeginError::Uncountable(_) | BeginError::Disk(_)) => {
                tracing::warn!("a canary is not booted: {}", chain(&error));
                Begun::Uncountable(chain(&error))
            }
        })
    }

    /// Chooses what an instance boots. `missed` is known better than what is counted. Blocking.
    fn choose_release(
        &self,
        wanted: Wanted<'_>,
        image: Option<Obtained>,
        policy: &Policy,
        missed: Option<Begun>,
    ) -> Result<Chosen, ApiError> {
        let requested = wanted.release.map(|text| self.find_release(text)).transpose()?;
        let instance = NewInstance {
            id: wanted.id,
            name: wanted.name,
            requested: requested.as_ref().map(InstalledRelease::id),
        };
        let mut facts = self.look_up(policy, instance);
        if let Some(missed) = missed {
            facts.host.begun = missed;
        }
        match select_release(policy, instance, &facts.host) {
            Ok(selection) => match facts.releases.remove(&selection.release) {
                Some(Ok(release)) => Ok(Chosen {
                    release,
                    selection,
                    image,
                }),
                Some(Err(error)) => Err(cache_error(error.code(), &error)),
                None => Err(ApiError::internal(
                    "internal",
                    "a release was chosen that was not looked at",
                )),
            },
            Err(no_release) => Err(facts.explain(&no_release)),
        }
    }

    /// What an instance boots of which nothing is known, or what was passed over for nothing. Blocking.
    pub(super) fn select_default(&self) -> Result<Selection, Vec<PassedOver>> {
        let nobody = NewInstance {
            id: "",
            name: None,
            requested: None,
        };
        // A canary is no default, whatever its weight.
        let policy = Policy {
            canary: None,
            pins: BTreeMap::new(),
            ..self.policy()
        };
        let facts = self.look_up(&policy, nobody);
        select_release(&policy, nobody, &facts.host).map_err(|no_release| match no_release {
            NoRelease::Requested(passed) => vec![*passed],
            NoRelease::NothingLeft(passed) => passed,
        })
    }

    /// Looks at those releases that the decision may fall on, and at no others.
    fn look_up(&self, policy: &Policy, instance: NewInstance<'_>) -> Facts {
        let (current, current_problem) = match self.0.cache.current_id() {
            Ok(current) => (current, None),
            Err(error) => (None, Some(error)),
        };
        let (id, begun) = self
            .control()
            .map(|control| control.standing(policy))
            .unwrap_or_default();
        let mut releases = BTreeMap::new();
        let mut installed = BTreeMap::new();
        for (_, candidate) in candidates(policy, instance, id.as_deref(), current.as_ref()) {
            let release = self.0.cache.get(&candidate);
            match &release {
                Ok(_) => {
                    installed.insert(candidate.clone(), Standing::Bootable);
                }
                Err(ReleaseError::NotInstalled { .. }) => {}
                Err(error) => {
                    installed.insert(candidate.clone(), Standing::Refused(chain(error)));
                }
            }
            releases.insert(candidate, release);
        }
        Facts {
            releases,
            host: OnHost {
                installed,
                current,
                id,
                begun,
            },
            current_problem,
        }
    }
}

impl Facts {
    fn explain(&self, no_release: &NoRelease) -> ApiError {
        match no_release {
            NoRelease::Requested(passed) => match passed.obstacle {
                Obstacle::Blocked => ApiError::conflict(
                    no_release.code(),
                    format!("release {} is blocked: no new instance boots it", passed.release),
                )
                .hint("`plfm admin kernels show` says why; boot another release, or have an operator unblock it"),
                Obstacle::Absent | Obstacle::Refused(_) | Obstacle::UsedUp(_) | Obstacle::Uncountable(_) => {
                    self.refusal(passed, no_release)
                }
            },
            NoRelease::NothingLeft(passed_over) => match passed_over.as_slice() {
                [] => match &self.current_problem {
                    Some(error) => cache_error(error.code(), error),
                    None => ApiError::conflict(no_release.code(), no_release.to_string())
                        .hint("install one with `plfm release install DIR --current`"),
                },
                [only] => self.refusal(only, no_release),
                [_, ..] => ApiError::conflict(no_release.code(), no_release.to_string())
                    .hint("`plfm host` shows what is waited for, `plfm release list` what is here"),
            },
        }
    }

    /// What the cache said, with its own code, where one release is all that was looked at.
    fn refusal(&self, passed: &PassedOver, no_release: &NoRelease) -> ApiError {
        match self.releases.get(&passed.release) {
            Some(Err(error)) => cache_error(error.code(), error),
            Some(Ok(_)) | None => ApiError::conflict(no_release.code(), no_release.to_string()),
        }
    }
}
