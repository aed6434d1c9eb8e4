//! How the host is, for the control plane.

use std::collections::BTreeSet;

use jiff::Timestamp;
use plfm_api::ReleaseState;
use plfm_api::control::{Advertisement, CurrentDefault, HostRelease, HostStatus};
use plfm_cache::InstalledRelease;
use plfm_release::{Architecture, ReleaseId};
use plfm_rollout::selection::Obstacle;

use crate::agent::{Agent, PROTOCOLS, vmm_name};
use crate::problem::chain;

/// Releases in a status, and problems, at most; and the length of a problem, in characters.
const RELEASES_MAX: usize = 64;
const PROBLEMS_MAX: usize = 16;
const PROBLEM_MAX: usize = 400;

impl Agent {
    /// How the host is. It says the same as long as nothing changes. Blocking.
    pub(super) fn host_status(&self) -> HostStatus {
        let mut problems = Vec::new();
        let mut listed = self.0.cache.list().unwrap_or_else(|error| {
            problems.push(format!("cannot list the releases: {}", chain(&error)));
            Vec::new()
        });
        listed.sort_by_key(|(id, release)| {
            let at = release
                .as_ref()
                .map(InstalledRelease::installed_at)
                .unwrap_or(Timestamp::MIN);
            (std::cmp::Reverse(at), id.clone())
        });
        listed.truncate(RELEASES_MAX);
        let default = self.default_here(&mut problems);
        let running = self.running();
        let releases = listed.iter().map(|(id, release)| HostRelease {
            release: id.clone(),
            state: match release {
                Err(_) => ReleaseState::Refused,
                Ok(_) if Some(id) == default.as_ref() => ReleaseState::Current,
                Ok(_) => ReleaseState::Installed,
            },
            instances: running
                .get(id)
                .copied()
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0),
        });
        let releases = releases.collect();
        self.add_problems(&mut problems);
        problems.truncate(PROBLEMS_MAX);
        for problem in &mut problems {
            *problem = problem
                .chars()
                .filter(|c| !c.is_control())
                .take(PROBLEM_MAX)
                .collect();
        }
        HostStatus {
            advertisement: Advertisement {
                kernel_versions: kernels(&listed.iter().map(|(id, _)| id).collect::<Vec<_>>()),
                guest_init_protocols: PROTOCOLS.iter().map(|protocol| protocol.0).collect(),
                current_default: default.map(|id| CurrentDefault {
                    kernel: id.kernel,
                    initramfs: id.initramfs,
                }),
            },
            arch: Architecture::X86_64,
            vmm: vmm_name(&self.0.backend).to_owned(),
            releases,
            problems,
        }
    }

    /// What a new instance boots here, if nothing else is said for it.
    fn default_here(&self, problems: &mut Vec<String>) -> Option<ReleaseId> {
        let passed_over = match self.select_default() {
            Ok(selection) => {
                let passed_over = selection.passed_over;
                problems.extend(refusals(&passed_over));
                return Some(selection.release);
            }
            Err(passed_over) => passed_over,
        };
        problems.extend(refusals(&passed_over));
        None
    }

    fn add_problems(&self, problems: &mut Vec<String>) {
        if let Some(control) = self.control() {
            let state = control.state();
            problems.extend(state.failures.values().map(|failure| failure.detail.clone()));
            if let Some(Err(window)) = &state.window {
                problems.push(format!(
                    "the maintenance window cannot be used, so nothing is fetched: {window}"
                ));
            }
        }
        problems.extend(self.registry_problem());
    }
}

/// What is refused is a problem; what is blocked is not, and what is absent is on its way or is one already.
fn refusals(passed_over: &[plfm_rollout::selection::PassedOver]) -> Vec<String> {
    let refused = passed_over.iter().filter(|passed| match passed.obstacle {
        Obstacle::Refused(_) => true,
        Obstacle::Blocked | Obstacle::Absent | Obstacle::UsedUp(_) | Obstacle::Uncountable(_) => false,
    });
    refused.map(ToString::to_string).collect()
}

/// Each kernel once, in the order of the releases.
fn kernels(releases: &[&ReleaseId]) -> Vec<plfm_release::KernelLabel> {
    let mut seen = BTreeSet::new();
    let kernels = releases
        .iter()
        .map(|id| &id.kernel)
        .filter(|kernel| seen.insert(kernel.to_string()));
    kernels.cloned().collect()
}
