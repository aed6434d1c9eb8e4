//! What a rollout tells hosts.

use plfm_api::control::{Canary, CanaryCohort, Generation};
use plfm_release::ReleaseId;
use plfm_rollout::rollout::{self, Cohort, Directive, Extent};
use serde::{Deserialize, Serialize};

/// What hosts are told, with the cohort as a bound on places.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Orders {
    /// What new instances boot. None if nothing may be named: hosts go on with what they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<ReleaseId>,
    /// What some of them boot instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// How many hosts the canary's cohort was to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort_hosts: Option<u32>,
    /// What hosts bring in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefetch: Option<ReleaseId>,
}

impl Orders {
    /// Of what was decided. `hosts_below` is the place below which the cohort's hosts are; `since` the generation in which
    /// the rollout began.
    pub fn of(directive: &Directive, since: Generation, hosts_below: Option<u32>) -> Self {
        let cohort = match directive.canary.as_ref().map(|canary| canary.extent) {
            Some(Extent::Hosts(cohort)) => Some(cohort),
            Some(Extent::Share(_)) | None => None,
        };
        let canary = directive.canary.as_ref().map(|canary| Canary {
            release: canary.release.clone(),
            weight: match canary.extent {
                Extent::Hosts(cohort) => cohort.share,
                Extent::Share(share) => share,
            },
            cohort: cohort.map(|cohort| CanaryCohort {
                hosts_below,
                boots_each: cohort.boots_each,
                since,
            }),
        });
        Self {
            default: directive.default.clone(),
            canary,
            cohort_hosts: cohort.map(|cohort| cohort.hosts),
            prefetch: directive.prefetch.clone(),
        }
    }

    /// The same, as it was decided.
    pub fn directive(&self) -> Directive {
        let extent = |canary: &Canary| match (canary.cohort, self.cohort_hosts) {
            (Some(cohort), Some(hosts)) => Extent::Hosts(Cohort {
                hosts,
                boots_each: cohort.boots_each,
                share: canary.weight,
            }),
            (Some(_), None) | (None, _) => Extent::Share(canary.weight),
        };
        Directive {
            default: self.default.clone(),
            canary: self.canary.as_ref().map(|canary| rollout::Canary {
                release: canary.release.clone(),
                extent: extent(canary),
            }),
            prefetch: self.prefetch.clone(),
        }
    }

    /// Whether they name a release.
    pub fn names(&self, release: &ReleaseId) -> bool {
        let canary = self.canary.as_ref().map(|canary| &canary.release);
        [self.default.as_ref(), canary, self.prefetch.as_ref()].contains(&Some(release))
    }
}
