//! Rollouts: a release that goes out in waves and is taken back by itself.

use jiff::Timestamp;
use plfm_release::ReleaseId;
use serde::{Deserialize, Serialize};

use super::{Actor, Generation, HostId};

/// Which plan a rollout starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PlanBase {
    /// For every day.
    #[default]
    Usual,
    /// For a fix that cannot wait: the same waves and tests with short soaks.
    Emergency,
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RolloutWave {
    /// The share of new instances that boot the release, in hundredths of a percent.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 10000))]
    pub share: u16,
    /// Boots that must have been counted before the next wave.
    pub sample_min: u32,
    /// How long it takes at least, in seconds.
    pub soak_seconds: u32,
    /// How long it takes at most, in seconds.
    pub wait_seconds: u32,
}

/// What happens to a wave that took its longest and did not see its boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OverdueWave {
    /// It waits for a person.
    Pause,
    /// The next wave begins, if nothing speaks against the release.
    Advance,
}

/// What happens when boots take longer than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SlowBoots {
    /// It is said.
    Warn,
    /// It waits for a person.
    Pause,
}

/// How a release is rolled out and what takes it back. When one is started, what is left out is the base's; when one is
/// shown, all of it is there. Shares and rates are in hundredths of a percent, times in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RolloutPlan {
    /// What it starts from.
    pub base: PlanBase,
    /// The waves; their shares rise, the last one is everything.
    #[cfg_attr(feature = "openapi", schema(max_items = 20))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waves: Option<Vec<RolloutWave>>,
    /// Before the first wave's whole share: boots that may be begun in all, step by step.
    #[cfg_attr(feature = "openapi", schema(max_items = 10))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Vec<u32>>,
    /// The share of hosts that must have the release before the first wave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distributed_min: Option<u16>,
    /// How long distribution may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution_wait_seconds: Option<u32>,
    /// In the last wave: the share of new instances that go on with the old release, to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdback: Option<u16>,
    /// The failure rate that no release may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u16>,
    /// How much more of its boots than of the old release's may fail before it is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<u16>,
    /// Counted boots at which the threshold is taken by its word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_enough: Option<u32>,
    /// How long after its end a minute is judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judged_after_seconds: Option<u32>,
    /// Boots of the old release that the new one's are compared with at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<u32>,
    /// Failures must come from this many hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts_min: Option<u32>,
    /// Each test takes back a release that does not deserve it once in this many rollouts at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub false_rollback_one_in: Option<u32>,
    /// The test for any regression pauses a release that has none once in this many rollouts at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub false_pause_one_in: Option<u32>,
    /// What is over its threshold is taken back once a test agrees that is wrong once in this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreed_one_in: Option<u32>,
    /// The share of hosts that may be set apart because only their boots of this release fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart_max: Option<u16>,
    /// What slow boots mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowBoots>,
    /// What a wave that never sees its boots means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdue: Option<OverdueWave>,
    /// After a rollback, no rollout for this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cool_down_seconds: Option<u32>,
    /// The share of hosts that must have a release before the fleet is taken back to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_back_present_min: Option<u16>,
}

/// `POST /v1/rollouts`: begins to roll a release out. There is one at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartRollout {
    /// The release: its id, either label, or a build id that only one has.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub release: String,
    /// How.
    #[serde(default)]
    pub plan: RolloutPlan,
    /// Only if the fleet's generation is still this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_generation: Option<Generation>,
    /// Even if there are active hosts that could not run it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub despite_unable_hosts: bool,
    /// Why, for the log.
    #[cfg_attr(feature = "openapi", schema(max_length = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /v1/rollouts/{id}/pause`, `/resume`, `/abort`, `/promote`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ChangeRollout {
    /// With `pause`: whether the release loses the share of new instances that it has.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub withdraw: bool,
    /// Only if the fleet's generation is still this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_generation: Option<Generation>,
    /// Why, for the log.
    #[cfg_attr(feature = "openapi", schema(max_length = 512))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RolloutStage {
    /// It was asked for.
    Planned,
    /// Hosts bring the release in; nothing boots it.
    Distributing,
    /// A share of new instances boots it.
    Canary,
    /// It is the default; a few new instances still boot what was before it.
    Promoting,
    /// Every new instance boots it.
    Complete,
    /// The fleet is told to go back.
    RollingBack,
    /// The fleet is back.
    RolledBack,
    /// A person ended it.
    Aborted,
}

/// What a paused rollout's release is left with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PausedShare {
    /// The share of new instances that it had.
    Kept,
    /// None: new instances boot the default.
    Withdrawn,
}

/// A wave and how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WavePosition {
    /// Which one, from 1.
    pub wave: u8,
    /// Of how many.
    pub waves: u8,
    /// While it probes: how many boots may be begun in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boots_max: Option<u32>,
    /// The share of new instances that boot the release now, in hundredths of a percent; of a probe, 0.
    pub share: u16,
}

/// A line of `plfm admin rollout list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rollout {
    /// Its id, a ULID.
    pub id: String,
    /// What is rolled out.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub release: ReleaseId,
    /// What was the default when it began.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub baseline: ReleaseId,
    /// Where it is; of a paused one, where it was.
    pub stage: RolloutStage,
    /// Whether it waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PausedShare>,
    /// The wave that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<WavePosition>,
    /// Why it is where it is, in words: `held in wave 2: 31 of 50 boots seen, 19 more needed; soak ends 14:05`.
    pub why: String,
    /// What an operator should know beside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Where the fleet was taken back to.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<ReleaseId>,
    /// Who started it.
    pub started_by: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub started_at: Timestamp,
    /// Since when it is in this wave, or where else it is.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
    /// When it was over.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// Boots that were counted, and what became of them. Parts of boots are what the weighing of hosts leaves.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BootSample {
    /// All that count.
    pub boots: f64,
    /// Of these, those that failed.
    pub failures: f64,
    /// Of the failures, those where no hello came.
    pub handshake_timeouts: f64,
    /// Of those that became ready, the slow ones.
    pub slow: f64,
    /// The failure rate, 0 to 1; none of nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_rate: Option<f64>,
    /// The 95 % interval of the rate that such a sample comes from (Clopper-Pearson), 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_rate_interval: Option<[f64; 2]>,
}

/// How sure a test is, and how sure it must be. A false alarm is rarer than one in that many, however often one looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Evidence {
    /// What it would show: `worse_than_baseline`, `handshake_timeouts`, `over_threshold`, `worse_at_all`, `slow`.
    pub test: String,
    /// The evidence so far: one in this many that chance gives so much.
    pub one_in: f64,
    /// From which on something happens.
    pub needed: f64,
}

/// A host whose boots fail so much more often than others' that its failures are not counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostSetApart {
    /// The host.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub host: HostId,
    /// What people call it.
    pub name: String,
    /// Its boots of the new release, and how many failed.
    pub release_boots: f64,
    /// See `release_boots`.
    pub release_failures: f64,
    /// Its boots of the old release, and how many failed.
    pub baseline_boots: f64,
    /// See `baseline_boots`.
    pub baseline_failures: f64,
}

/// What the boots say so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutHealth {
    /// Boots of the new release in this wave.
    pub sample: BootSample,
    /// Boots of the new release that are judged.
    pub release: BootSample,
    /// Boots of the old release in the same minutes.
    pub baseline: BootSample,
    /// Hosts with failures of the new release that count.
    pub failing_hosts: u32,
    /// Hosts that are set apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<HostSetApart>,
    /// The tests.
    pub evidence: Vec<Evidence>,
    /// Whether the old release's boots fail, these minutes.
    pub incident: bool,
}

/// The hosts, as far as a rollout needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutHosts {
    /// Those that take instances.
    pub active: u32,
    /// Of these, those that could run the release.
    pub eligible: u32,
    /// Of the eligible, those that have it.
    pub with_release: u32,
    /// Of the active, those that go by the newest target.
    pub at_generation: u32,
    /// Of the active, those that were heard of lately.
    pub heard: u32,
}

/// One thing that happened to a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutMoment {
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// What: `started`, `distributed`, `widened`, `advanced`, `promoted`, `settled`, `paused`, `resumed`, `condemned`,
    /// `aborted`, `retold` (hosts are told something else, because of which hosts and releases there are).
    pub kind: String,
    /// Why.
    pub why: String,
    /// Who: an operator, or the control plane itself.
    pub actor: Actor,
    /// The fleet's generation from then on.
    pub generation: Generation,
}

/// `plfm admin rollout show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutDetail {
    /// The line of the list.
    #[serde(flatten)]
    pub rollout: Rollout,
    /// The whole plan.
    pub plan: RolloutPlan,
    /// What the boots say; nothing of one that is over, where it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<RolloutHealth>,
    /// The hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<RolloutHosts>,
    /// Boots that this wave still needs before the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_needed: Option<u32>,
    /// When its soak ends.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak_ends_at: Option<Timestamp>,
    /// When it has taken its longest.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ends_at: Option<Timestamp>,
    /// What happened to it, oldest first.
    pub history: Vec<RolloutMoment>,
}

/// What a webhook gets for each decision, as JSON. `plfm-signature: sha256=HEX` is the HMAC-SHA256 of the body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutNotice {
    /// The event's place in the log: a notice may come twice, and is the same then.
    pub position: u64,
    /// `rolled_back`, `paused`, `incident`, `no_way_back`: what a person must hear of; none of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub moment: RolloutMoment,
    /// The rollout from then on.
    pub rollout: Rollout,
}
