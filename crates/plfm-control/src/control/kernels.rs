//! Releases, as operators see them.

use plfm_api::control::{Kernel, KernelDetail, KernelHost, KernelState, Page};
use plfm_release::ReleaseId;

use super::{Control, ControlError, Numbers};
use crate::fleet::{FleetState, ReleaseRecord};

/// Hosts that could not run a release, of which an operator is told by name.
const UNABLE_SHOWN: usize = 20;

impl Control {
    /// The releases, newest first, after the one that `cursor` names.
    pub async fn kernels(
        &self,
        cursor: Option<&ReleaseId>,
        limit: usize,
    ) -> Result<Page<Kernel>, ControlError> {
        let numbers = self.numbers().await?;
        let fleet = self.fleet();
        let mut releases: Vec<(&ReleaseId, &ReleaseRecord)> = fleet.releases().iter().collect();
        releases.sort_by(|(a_id, a), (b_id, b)| b.found_at.cmp(&a.found_at).then_with(|| b_id.cmp(a_id)));
        // A cursor names a release that was there: none is ever forgotten.
        let begin = match cursor {
            Some(cursor) => releases
                .iter()
                .position(|(release, _)| *release == cursor)
                .map_or(releases.len(), |at| at + 1),
            None => 0,
        };
        let rest = releases.get(begin..).unwrap_or_default();
        let items: Vec<Kernel> = rest
            .iter()
            .take(limit)
            .map(|(release, record)| kernel(&fleet, &numbers, release, record))
            .collect();
        let more = rest.len() > limit;
        Ok(Page {
            next_cursor: items.last().filter(|_| more).map(|last| last.release.to_string()),
            items,
        })
    }

    /// One release, by its id, either label, or a build id.
    pub async fn kernel(&self, text: &str) -> Result<KernelDetail, ControlError> {
        let numbers = self.numbers().await?;
        let fleet = self.fleet();
        let (release, record) = fleet.resolve(text)?;
        let found = &record.found;
        let (mut unable, mut unable_total) = (Vec::new(), 0);
        for group in self.versions(&fleet, self.now()).await? {
            let Some(reason) = found.why_not(&group) else {
                continue;
            };
            unable_total += group.hosts;
            unable.extend(group.examples.into_iter().map(|(host, name)| KernelHost {
                host,
                name,
                reason: reason.clone(),
            }));
        }
        unable.truncate(UNABLE_SHOWN);
        let was_default = fleet
            .defaults()
            .iter()
            .rev()
            .filter(|was| was.release == *release);
        Ok(KernelDetail {
            kernel: kernel(&fleet, &numbers, release, record),
            manifest_sha256: found.manifest_sha256.to_string(),
            key_id: found.key_id.to_string(),
            min_agent_version: found.compatibility.min_agent_version.clone(),
            supported_protocols: found
                .compatibility
                .supported_protocols
                .iter()
                .map(|protocol| protocol.0)
                .collect(),
            outcomes: numbers.boots.get(release).cloned().unwrap_or_default(),
            default_in: was_default.map(|was| was.generation).collect(),
            unable,
            unable_total,
        })
    }
}

fn kernel(fleet: &FleetState, numbers: &Numbers, release: &ReleaseId, record: &ReleaseRecord) -> Kernel {
    let count = numbers.releases.get(release);
    let (boots_ready, boots) = numbers.boots_of(release);
    Kernel {
        release: release.clone(),
        state: state(fleet, release, record),
        kernel: release.kernel.clone(),
        initramfs: release.initramfs.clone(),
        guest_init_version: release.initramfs.version.clone(),
        protocol: record.found.protocol.0,
        hosts: count.map_or(0, |count| count.hosts_installed),
        hosts_active: numbers.hosts_active(),
        instances: count.map_or(0, |count| count.instances),
        boots_ready,
        boots,
        found_at: record.found_at,
    }
}

/// What is wrong with a release comes before what it is used for.
pub(crate) fn state(fleet: &FleetState, release: &ReleaseId, record: &ReleaseRecord) -> KernelState {
    if let Some(reason) = record.withdrawn.clone() {
        return KernelState::Withdrawn { reason };
    }
    if let Some(reason) = record.blocked.clone() {
        return KernelState::Blocked { reason };
    }
    if fleet.default_release() == Some(release) {
        return KernelState::Default;
    }
    if let Some(reason) = record.rolled_back.clone() {
        return KernelState::RolledBack { reason };
    }
    if let Some(canary) = fleet.canary().filter(|canary| canary.release == *release) {
        return KernelState::Canary {
            weight: canary.weight,
        };
    }
    match fleet.known_good() {
        Some(was) if was.release == *release => KernelState::Previous,
        Some(_) | None => KernelState::Available,
    }
}
