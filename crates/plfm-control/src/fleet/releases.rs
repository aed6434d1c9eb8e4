//! Commands about releases and the policy.

use plfm_api::control::{
    BlockRelease, Generation, MaintenanceWindow, Policy, Rollback, SetDefault, SetPolicy, UnblockRelease,
    WEIGHT_MAX,
};
use plfm_release::ReleaseId;
use plfm_rollout::window::WindowText;

use super::command::Lacking;
use super::state::ReleaseRecord;
use super::{Command, Context, Decision, Fact, FleetState, FoundRelease, Refusal};

/// Instances with a release of their own, at most: every host is told of all of them.
const PINS_MAX: usize = 1_000;
/// Releases that hosts bring in beforehand, at most: each costs every host its size.
const PREFETCH_MAX: usize = 8;
/// How long a host may be silent, in seconds: not less than a few heartbeats, not more than a week.
const LOST_AFTER_SECONDS: std::ops::RangeInclusive<u32> = 30..=604_800;
/// Examples in an error or a warning.
const EXAMPLES_MAX: usize = 5;

impl FleetState {
    /// The release that an operator's text means.
    ///
    /// # Errors
    /// None, or more than one.
    pub fn resolve(&self, text: &str) -> Result<(&ReleaseId, &ReleaseRecord), Refusal> {
        let mut matching = self.releases.iter().filter(|(release, _)| release.matches(text));
        match (matching.next(), matching.next()) {
            (Some(one), None) => Ok(one),
            (Some((first, _)), Some((second, _))) => {
                let detail = format!("{text:?} could be {first} or {second}");
                Err(Refusal::conflict("release_ambiguous", detail).hint("give the whole id"))
            }
            (None, _) => {
                let detail = format!("the control plane knows no release {text:?}");
                Err(Refusal::not_found("release_unknown", detail).hint(
                    "see `plfm admin kernels list`; a release that was published just now is found within a minute",
                ))
            }
        }
    }

    pub(super) fn check_bootable(&self, release: &ReleaseId, record: &ReleaseRecord) -> Result<(), Refusal> {
        if let Some(reason) = &record.blocked {
            let detail = format!("{release} is blocked: {reason}");
            return Err(Refusal::conflict("release_blocked", detail).hint(format!(
                "if that is settled: `plfm admin kernels unblock {release}`"
            )));
        }
        if let Some(reason) = &record.withdrawn {
            let detail = format!("{release} is withdrawn: {reason}");
            return Err(Refusal::conflict("release_withdrawn", detail)
                .hint("publish it again, or choose another one: `plfm admin kernels list`"));
        }
        Ok(())
    }

    pub(super) fn set_default(&self, request: &SetDefault, context: &Context) -> Result<Decision, Refusal> {
        self.check_generation(request.expected_generation)?;
        self.check_no_rollout()?;
        let (release, record) = self.resolve(&request.release)?;
        self.check_bootable(release, record)?;
        if let Some(reason) = &record.rolled_back {
            let detail = format!("the fleet was taken back from {release}: {reason}");
            return Err(Refusal::conflict("release_rolled_back", detail).hint(format!(
                "if it is good after all: `plfm admin kernels unblock {release}`"
            )));
        }
        if self.default_release() == Some(release) {
            return Ok(Decision {
                release: Some(release.clone()),
                ..Decision::unchanged(format!("{release} is the default already"))
            });
        }
        let unable = unable(&record.found, context);
        if unable.hosts > 0 && !request.despite_unable_hosts {
            let detail = format!("{release} cannot run on {}", unable.told());
            return Err(Refusal::conflict("hosts_unable", detail).hint(
                "update their agents first, or say --despite-unable-hosts: they go on with what they have",
            ));
        }
        let lacking = lacking(release, context)?;
        let previous = self.default_release().cloned();
        let fact = Fact::DefaultSet {
            generation: self.next_generation(),
            release: release.clone(),
            previous: previous.clone(),
            reason: request.reason.clone(),
        };
        let mut warnings = Vec::new();
        if unable.hosts > 0 {
            warnings.push(format!("cannot run on {}", unable.told()));
        }
        if lacking.hosts > 0 {
            warnings.push(format!(
                "{}; they fetch it first, and boot what they have until then",
                told_lacking(lacking)
            ));
        }
        let undo = previous
            .as_ref()
            .map(|previous| format!("plfm admin kernels rollback {previous}"));
        Ok(Decision {
            release: Some(release.clone()),
            previous_release: previous,
            warnings,
            undo,
            watch: Some("plfm admin fleet".to_owned()),
            ..Decision::of(fact, format!("default set to {release}"))
        })
    }

    /// The release that a rollback goes to, and why.
    fn rollback_target(
        &self,
        request: &Rollback,
        current: &ReleaseId,
    ) -> Result<(ReleaseId, String), Refusal> {
        match &request.to {
            Some(text) => {
                let (release, record) = self.resolve(text)?;
                self.check_bootable(release, record)?;
                if let Some(reason) = record
                    .rolled_back
                    .as_ref()
                    .filter(|_| !request.despite_earlier_rollback)
                {
                    let detail = format!("the fleet was taken back from {release} itself: {reason}");
                    return Err(Refusal::conflict("release_rolled_back", detail).hint(
                        "choose another one, or say --despite-earlier-rollback if it is the lesser evil",
                    ));
                }
                Ok((release.clone(), "an operator named it".to_owned()))
            }
            // The release on trial is not the default yet: what is goes on.
            None if self.candidate_on_trial().is_some() => {
                let why = format!("the default, which {current} is until the rollout promotes another");
                Ok((current.clone(), why))
            }
            None => match self.known_good() {
                Some(was) => {
                    let why = format!(
                        "the last known good: the default from generation {} on ({}), before {current}; not blocked, still in \
                         the registry, and never taken back",
                        was.generation, was.at
                    );
                    Ok((was.release.clone(), why))
                }
                None => {
                    let detail = "there is no known good release to go back to: no earlier default is left that is in the \
                                  registry, not blocked, and was not taken back itself";
                    Err(Refusal::conflict("no_known_good", detail)
                        .hint("name one: `plfm admin kernels rollback RELEASE`; `plfm admin kernels list` shows what there is"))
                }
            },
        }
    }

    pub(super) fn roll_back(&self, request: &Rollback, context: &Context) -> Result<Decision, Refusal> {
        self.check_generation(request.expected_generation)?;
        let Some(current) = self.default_release() else {
            return Err(
                Refusal::conflict("no_default", "the fleet has no default to go back from")
                    .hint("set one: `plfm admin kernels set-default RELEASE`"),
            );
        };
        // Whoever is as quick as the rollout itself means the same: not two steps back.
        if let Some(release) = self.on_its_way_to().filter(|_| request.to.is_none()) {
            return Ok(Decision {
                release: Some(release.clone()),
                watch: Some("plfm admin rollout show".to_owned()),
                ..Decision::unchanged(format!("the fleet is being taken back to {release} already"))
            });
        }
        let (release, why) = self.rollback_target(request, current)?;
        let from = match self.candidate_on_trial() {
            Some(candidate) if release == *current => candidate,
            Some(_) | None => current,
        };
        if release == *from {
            return Ok(Decision {
                release: Some(release.clone()),
                ..Decision::unchanged(format!("{release} is the default already"))
            });
        }
        let lacking = lacking(&release, context)?;
        if lacking.hosts > 0 && !request.despite_missing_hosts {
            return Err(Refusal::conflict("hosts_lack_release", told_lacking(lacking)).hint(
                "wait until they have it (`plfm admin policy prefetch add`), name another release, or say \
                 --despite-missing-hosts: those boot what they have until they fetched it",
            ));
        }
        let ended = self.end_rollout(context)?;
        // The rollout's end is the first of two changes, if it is one.
        let raised = ended.as_ref().and_then(|step| step.generation);
        let fact = Fact::RolledBack {
            generation: raised.map_or_else(|| self.next_generation(), |raised| Generation(raised.0 + 1)),
            release: release.clone(),
            from: from.clone(),
            why: why.clone(),
            reason: request.reason.clone(),
        };
        let warnings = (lacking.hosts > 0).then(|| told_lacking(lacking));
        let undo = format!("plfm admin kernels unblock {from} && plfm admin kernels set-default {from}");
        let rollout = ended.as_ref().map(|step| step.rollout.clone());
        let facts = ended.map(Fact::RolloutMoved).into_iter().chain([fact]).collect();
        Ok(Decision {
            facts,
            summary: format!("rolled back to {release}"),
            release: Some(release.clone()),
            previous_release: Some(from.clone()),
            rollout,
            why: Some(why),
            warnings: warnings.into_iter().collect(),
            undo: Some(undo),
            watch: Some("plfm admin fleet".to_owned()),
        })
    }

    pub(super) fn block(&self, request: &BlockRelease) -> Result<Decision, Refusal> {
        self.check_generation(request.expected_generation)?;
        let (release, record) = self.resolve(&request.release)?;
        if request.reason.trim().is_empty() {
            return Err(Refusal::invalid(
                "reason_missing",
                "a block needs a reason: whoever comes next wants to know",
            ));
        }
        if record.blocked.as_ref() == Some(&request.reason) {
            return Ok(Decision {
                release: Some(release.clone()),
                ..Decision::unchanged(format!("{release} is blocked already"))
            });
        }
        if self.default_release() == Some(release) {
            let detail =
                format!("{release} is the default: without it new instances would have nothing to boot");
            return Err(Refusal::conflict("release_is_default", detail)
                .hint("take the fleet back first: `plfm admin kernels rollback`; then block it"));
        }
        let fact = Fact::ReleaseBlocked {
            generation: self.next_generation(),
            release: release.clone(),
            reason: request.reason.clone(),
        };
        Ok(Decision {
            release: Some(release.clone()),
            undo: Some(format!("plfm admin kernels unblock {release}")),
            watch: Some("plfm admin fleet".to_owned()),
            ..Decision::of(fact, format!("blocked {release}"))
        })
    }

    pub(super) fn unblock(&self, request: &UnblockRelease) -> Result<Decision, Refusal> {
        self.check_generation(request.expected_generation)?;
        let (release, record) = self.resolve(&request.release)?;
        if record.blocked.is_none() && record.rolled_back.is_none() {
            return Ok(Decision {
                release: Some(release.clone()),
                ..Decision::unchanged(format!("{release} is not blocked"))
            });
        }
        let fact = Fact::ReleaseUnblocked {
            generation: self.next_generation(),
            release: release.clone(),
            reason: request.reason.clone(),
        };
        let reason = record.blocked.as_ref().or(record.rolled_back.as_ref());
        let undo =
            reason.map(|reason| format!("plfm admin kernels block {release} --reason {}", quote(reason)));
        Ok(Decision {
            release: Some(release.clone()),
            undo,
            watch: Some("plfm admin kernels list".to_owned()),
            ..Decision::of(fact, format!("unblocked {release}"))
        })
    }

    pub(super) fn set_policy(&self, request: &SetPolicy) -> Result<Decision, Refusal> {
        self.check_generation(request.expected_generation)?;
        self.check_policy(&request.policy)?;
        if request.policy == self.policy {
            return Ok(Decision::unchanged("the policy is so already"));
        }
        let fact = Fact::PolicySet {
            generation: self.next_generation(),
            policy: request.policy.clone(),
            reason: request.reason.clone(),
        };
        Ok(Decision {
            watch: Some("plfm admin fleet".to_owned()),
            ..Decision::of(fact, "policy set")
        })
    }

    fn check_policy(&self, policy: &Policy) -> Result<(), Refusal> {
        let invalid = |detail: String| Refusal::invalid("policy_invalid", detail);
        if let Some(canary) = &policy.canary {
            self.check_no_rollout()?;
            if canary.cohort.is_some() {
                return Err(invalid(
                    "a cohort is a rollout's: a policy's canary is a share of all".to_owned(),
                ));
            }
            if canary.weight > WEIGHT_MAX {
                return Err(invalid(format!(
                    "the canary's weight {} is more than {WEIGHT_MAX}, which is everything",
                    canary.weight
                )));
            }
            self.check_choosable(&canary.release)?;
        }
        if policy.pins.len() > PINS_MAX || policy.prefetch.len() > PREFETCH_MAX {
            return Err(invalid(format!(
                "{} pins and {} releases to prefetch; at most {PINS_MAX} and {PREFETCH_MAX} are possible",
                policy.pins.len(),
                policy.prefetch.len()
            )));
        }
        for (instance, release) in &policy.pins {
            if instance.is_empty() || instance.len() > 63 || instance.chars().any(char::is_control) {
                return Err(invalid(format!("{instance:?} is not an instance's name or id")));
            }
            self.check_choosable(release)?;
        }
        for release in &policy.prefetch {
            self.check_choosable(release)?;
        }
        if let Some(window) = &policy.window {
            check_window(window)?;
        }
        if !LOST_AFTER_SECONDS.contains(&policy.lost_after_seconds) {
            return Err(invalid(format!(
                "lost_after_seconds is {}; it must be {} to {}",
                policy.lost_after_seconds,
                LOST_AFTER_SECONDS.start(),
                LOST_AFTER_SECONDS.end()
            )));
        }
        Ok(())
    }

    /// What the policy names must be there. What was blocked later stays named and is left out of the target.
    fn check_choosable(&self, release: &ReleaseId) -> Result<(), Refusal> {
        let (release, record) = self.resolve(&release.to_string())?;
        if self.policy.names(release) {
            return Ok(());
        }
        self.check_bootable(release, record)
    }

    pub(super) fn find_release(&self, found: &FoundRelease) -> Decision {
        match self.releases.get(&found.release) {
            Some(record) if record.withdrawn.is_none() && record.found == *found => {
                Decision::unchanged("known already")
            }
            Some(_) | None => {
                let summary = format!("found {}", found.release);
                let fact = Fact::ReleaseFound {
                    found: found.clone(),
                    generation: self.raised_by(&found.release),
                };
                Decision::of(fact, summary)
            }
        }
    }

    pub(super) fn withdraw_release(&self, release: &ReleaseId, reason: &str) -> Result<Decision, Refusal> {
        let (release, record) = self.resolve(&release.to_string())?;
        if record.withdrawn.is_some() {
            return Ok(Decision::unchanged("withdrawn already"));
        }
        let fact = Fact::ReleaseWithdrawn {
            release: release.clone(),
            reason: reason.to_owned(),
            generation: self.raised_by(release),
        };
        Ok(Decision::of(fact, format!("withdrew {release}")))
    }

    /// The next generation, if hosts are or were told of the release: its coming or going may change what they are told.
    fn raised_by(&self, release: &ReleaseId) -> Option<Generation> {
        let was_default = self.defaults.iter().any(|was| was.release == *release);
        let orders = self.rollout_under_way().map(|rollout| &rollout.orders);
        let is_told = orders.is_some_and(|orders| orders.names(release));
        (was_default || is_told || self.policy.names(release)).then(|| self.next_generation())
    }

    /// The release whose absence on hosts decides about a command, if there is one.
    pub fn release_in_question(&self, command: &Command) -> Option<ReleaseId> {
        let nothing_known = Context::at(jiff::Timestamp::UNIX_EPOCH);
        match self.decide(command, &nothing_known) {
            Err(Refusal::NeedsLacking(release)) => Some(*release),
            Err(Refusal::No { .. }) | Ok(_) => None,
        }
    }
}

fn check_window(window: &MaintenanceWindow) -> Result<(), Refusal> {
    let days: Vec<jiff::civil::Weekday> = window.days.iter().map(|day| day.civil()).collect();
    let problems = plfm_rollout::window::check_window(WindowText {
        days: &days,
        start: &window.start,
        duration_minutes: window.duration_minutes,
        time_zone: &window.time_zone,
    });
    match problems.first() {
        None => Ok(()),
        Some(problem) => Err(Refusal::invalid(
            "window_invalid",
            format!("window.{}: {problem}", problem.member()),
        )),
    }
}

/// Whether a policy names a release.
trait Names {
    fn names(&self, release: &ReleaseId) -> bool;
}

impl Names for Policy {
    fn names(&self, release: &ReleaseId) -> bool {
        self.canary
            .as_ref()
            .is_some_and(|canary| canary.release == *release)
            || self.pins.values().any(|pinned| pinned == release)
            || self.prefetch.contains(release)
    }
}

fn lacking<'a>(release: &ReleaseId, context: &'a Context) -> Result<&'a Lacking, Refusal> {
    let known = context
        .lacking
        .as_ref()
        .filter(|lacking| lacking.release == *release);
    known.ok_or_else(|| Refusal::NeedsLacking(Box::new(release.clone())))
}

fn told_lacking(lacking: &Lacking) -> String {
    format!(
        "{} of {} active hosts do not have {} yet{}",
        lacking.hosts,
        lacking.active,
        lacking.release,
        examples(lacking.examples.iter().map(String::as_str))
    )
}

/// Active hosts that could not run a release.
#[derive(Default)]
pub(super) struct Unable {
    pub(super) hosts: u64,
    told: Vec<String>,
}

impl Unable {
    pub(super) fn told(&self) -> String {
        format!("{} active hosts: {}", self.hosts, self.told.join("; "))
    }
}

pub(super) fn unable(found: &FoundRelease, context: &Context) -> Unable {
    let mut unable = Unable::default();
    for group in &context.versions {
        let Some(why) = found.why_not(group) else { continue };
        unable.hosts += group.hosts;
        if unable.told.len() < EXAMPLES_MAX {
            let names = examples(group.examples.iter().map(|(_, name)| name.as_str()));
            unable.told.push(format!("{} because {why}{names}", group.hosts));
        }
    }
    unable
}

/// ` (a, b, …)`, or nothing.
fn examples<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.take(EXAMPLES_MAX).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" (such as {})", names.join(", "))
    }
}

impl FoundRelease {
    /// Why hosts of a group cannot run it, if they cannot.
    pub fn why_not(&self, group: &super::VersionGroup) -> Option<String> {
        if self.arch != group.arch {
            return Some(format!("it is for {}, and they are {}", self.arch, group.arch));
        }
        let checked = self.compatibility.check(&group.agent_version, &group.protocols);
        checked.err().map(|error| error.to_string())
    }
}

/// As a word of a shell's command line.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
