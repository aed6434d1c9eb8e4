//! What a host tells, and what it is told.

use jiff::Timestamp;
use plfm_release::{Architecture, InitramfsLabel, KernelLabel, ReleaseId};
use serde::{Deserialize, Serialize};

use super::{Generation, Target};
use crate::{BootOutcome, ReleaseState};

/// Buckets of times to ready in one heartbeat, at most, over all of its outcomes: 17 bytes each, so that they, 256 outcomes without
/// them and a host's status are within the 256 KiB that a heartbeat may have. What is more waits for the next.
pub const BUCKETS_MAX: usize = 6_000;
/// Outcome counts in one heartbeat, at most; what is more waits for the next.
pub const OUTCOMES_MAX: usize = 256;

/// A host's word. With no news it is `stream`, `sequence`, `agent_version` and `generation`.
///
/// Counted once: `sequence` rises by one with each heartbeat that has news, and its content never changes once it was
/// sent. A host repeats it until it is acknowledged; whatever has a sequence that was applied already changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Which run of sequences this is: a ULID that an agent makes when it begins without an earlier one's state.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9A-Z]{26}$"))]
    pub stream: String,
    /// The number of the news in it, from 1; with no news, that of the last.
    pub sequence: u64,
    /// The agent's version.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub agent_version: semver::Version,
    /// The generation of the target that the host goes by; 0 before its first.
    #[serde(default)]
    pub generation: Generation,
    /// How the host is, all of it: when it changed, and when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<HostStatus>,
    /// Boots since the last heartbeat with news.
    #[cfg_attr(feature = "openapi", schema(max_items = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<OutcomeCount>,
    /// Releases that the host wants to fetch and may not yet.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>, max_items = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wants: Vec<ReleaseId>,
}

/// The versions that a host has and speaks (the spec's "Version Selection").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Advertisement {
    /// The kernels that are installed, newest first.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>, max_items = 64))]
    pub kernel_versions: Vec<KernelLabel>,
    /// The guest init protocols that the agent speaks.
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub guest_init_protocols: Vec<u32>,
    /// What a new instance boots here, if nothing else is said for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_default: Option<CurrentDefault>,
}

/// The pair that new instances boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CurrentDefault {
    /// The kernel's label.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kernel: KernelLabel,
    /// The initramfs's label.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub initramfs: InitramfsLabel,
}

/// How a host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostStatus {
    /// The spec's advertisement.
    #[serde(flatten)]
    pub advertisement: Advertisement,
    /// The machine.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub arch: Architecture,
    /// What runs microVMs here.
    pub vmm: String,
    /// The releases that are installed, and what runs on them.
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub releases: Vec<HostRelease>,
    /// What is wrong here that an operator should know: a release that cannot be fetched, a registry that does not answer.
    #[cfg_attr(feature = "openapi", schema(max_items = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A release on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostRelease {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub release: ReleaseId,
    /// Whether it can be booted, and whether new instances do.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: ReleaseState,
    /// Instances that run on it.
    pub instances: u32,
}

/// Boots of one release on one host that began in one minute and ended in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OutcomeCount {
    /// The release.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub release: ReleaseId,
    /// The minute's beginning.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub window: Timestamp,
    /// How they ended.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub outcome: BootOutcome,
    /// How many.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub count: u32,
    /// Of those that became ready: the time from the VM's start to ready, summed up, in milliseconds.
    #[serde(default)]
    pub ready_ms_total: u64,
    /// Of those: the longest, in milliseconds.
    #[serde(default)]
    pub ready_ms_max: u64,
    /// Of those: how many took how long, by [`ready_bucket`]; in the order of the buckets, each once, none empty.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Vec<u32>>, max_items = 160))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready_ms_buckets: Vec<(u8, u32)>,
}

/// Buckets of a time to ready, at most: up to half an hour, and what is longer in the last one.
pub const READY_BUCKETS: u8 = 160;
/// Times below this have a bucket each; eight buckets for each doubling from there on, so a bucket is an eighth wide at most.
const READY_EXACT_MS: u64 = 8;

/// The bucket of a time to ready in milliseconds: 0 to [`READY_BUCKETS`] - 1, rising with the time.
pub fn ready_bucket(ready_ms: u64) -> u8 {
    if ready_ms < READY_EXACT_MS {
        return u8::try_from(ready_ms).unwrap_or(0);
    }
    let doublings = ready_ms.ilog2() - READY_EXACT_MS.ilog2();
    let eighth = (ready_ms >> doublings) - READY_EXACT_MS;
    let bucket = (u64::from(doublings) + 1) * READY_EXACT_MS + eighth;
    u8::try_from(bucket).unwrap_or(u8::MAX).min(READY_BUCKETS - 1)
}

/// The shortest time in a bucket, in milliseconds.
pub fn ready_bucket_begin_ms(bucket: u8) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < READY_EXACT_MS {
        return bucket;
    }
    (READY_EXACT_MS + bucket % READY_EXACT_MS) << (bucket / READY_EXACT_MS - 1)
}

/// What a host is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatAnswer {
    /// The last of its news that is kept: what it need not send again.
    pub sequence: u64,
    /// The target's generation.
    pub generation: Generation,
    /// The target, if the host has an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// When to come back, in milliseconds.
    pub next_heartbeat_ms: u64,
    /// Whether the next heartbeat shall have the status.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub send_status: bool,
    /// Of what it wants, what it may fetch now.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_fetch: Vec<ReleaseId>,
    /// Whether the host shall take no new instances.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_bucket_begins_where_it_says_and_the_one_before_ends_there() {
        for bucket in 0..READY_BUCKETS {
            let begin = ready_bucket_begin_ms(bucket);
            assert_eq!(ready_bucket(begin), bucket);
            assert!(begin == 0 || ready_bucket(begin - 1) == bucket - 1, "{bucket}");
        }
        assert_eq!(ready_bucket(u64::MAX), READY_BUCKETS - 1);
        assert!(ready_bucket_begin_ms(READY_BUCKETS - 1) > 30 * 60 * 1000);
    }
}
