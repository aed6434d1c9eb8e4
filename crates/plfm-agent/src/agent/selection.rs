//! What a new instance boots: the decision is plfm-rollout's, the facts are here.

use std::collections::BTreeMap;

use plfm_cache::{InstalledRelease, ReleaseError};
use plfm_release::ReleaseId;
use plfm_rollout::selection::{
    NewInstance, NoRelease, Obstacle, OnHost, PassedOver, Policy, Selection, Standing, candidates,
    select_release,
};

use super::{Agent, cache_error};
use crate::problem::{ApiError, chain};

/// The instance that is to boot, as its request has it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub id: &'a str,
    pub name: Option<&'a str>,
    /// The release, perhaps abbreviated.
    pub release: Option<&'a str>,
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

    /// Chooses what an instance boots. Blocking.
    pub(super) fn choose_release(
        &self,
        wanted: Wanted<'_>,
    ) -> Result<(InstalledRelease, Selection), ApiError> {
        let requested = wanted.release.map(|text| self.find_release(text)).transpose()?;
        let instance = NewInstance {
            id: wanted.id,
            name: wanted.name,
            requested: requested.as_ref().map(InstalledRelease::id),
        };
        let policy = self.policy();
        let mut facts = self.look_up(&policy, instance);
        match select_release(&policy, instance, &facts.host) {
            Ok(selection) => match facts.releases.remove(&selection.release) {
                Some(Ok(release)) => Ok((release, selection)),
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
        let mut releases = BTreeMap::new();
        let mut installed = BTreeMap::new();
        for (_, id) in candidates(policy, instance, current.as_ref()) {
            let release = self.0.cache.get(&id);
            match &release {
                Ok(_) => {
                    installed.insert(id.clone(), Standing::Bootable);
                }
                Err(ReleaseError::NotInstalled { .. }) => {}
                Err(error) => {
                    installed.insert(id.clone(), Standing::Refused(chain(error)));
                }
            }
            releases.insert(id, release);
        }
        Facts {
            releases,
            host: OnHost { installed, current },
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
                Obstacle::Absent | Obstacle::Refused(_) => self.refusal(passed, no_release),
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
