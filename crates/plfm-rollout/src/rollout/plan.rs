//! How a release is rolled out, and what takes it back.

use jiff::SignedDuration;

/// Everything, in hundredths of a percent.
const WHOLE: u16 = 10_000;
/// Waves of a plan, at most: a stage counts them in a byte, and nobody reads more.
const WAVES_MAX: usize = 20;
/// Steps of a probe, at most.
const PROBE_MAX: usize = 10;
/// The longest soak or wait: what takes longer than a month is not a rollout.
const DURATION_MAX: SignedDuration = SignedDuration::from_hours(24 * 31);

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// The share of new instances that boot the release, in hundredths of a percent.
    pub share: u16,
    /// Boots that must have been counted before the next wave.
    pub sample_min: u32,
    /// How long it takes at least.
    pub soak_min: SignedDuration,
    /// How long it takes at most.
    pub wait_max: SignedDuration,
}

/// What happens to a wave that took its longest and did not see its boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// It waits for a person.
    Pause,
    /// The next wave begins, if nothing speaks against the release.
    Advance,
}

/// What happens when boots take longer than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// It is said.
    Warn,
    /// It waits for a person.
    Pause,
}

/// How a release is rolled out, and what takes it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The waves, each larger than the one before; the last one is everything.
    pub waves: Vec<Wave>,
    /// Before the first wave's whole share: boots that may be begun in all, step by step. What is begun and not yet
    /// reported is never more than a step allows, whatever the release does and whether or not anybody hears of it.
    pub probe: Vec<u32>,
    /// The share of hosts that must have the release before the first wave, in hundredths of a percent.
    pub distributed_min: u16,
    /// How long distribution may take.
    pub distribution_wait_max: SignedDuration,
    /// In the last wave: the share of new instances that go on with the old release, to compare with.
    pub holdback: u16,
    /// The failure rate that no release may have, in hundredths of a percent: the operator's threshold.
    pub threshold: u16,
    /// How much more of its boots than of the baseline's may fail before it is taken back, in hundredths of a percent.
    /// Also the share of hosts that may lie without forcing a rollback.
    pub margin: u16,
    /// Counted boots at which the threshold is taken by its word: more need not be known.
    pub sample_enough: u32,
    /// How long after its end a minute is judged: a handshake's timeout, and the longest that hosts keep good boots to
    /// themselves. Judged earlier, it has more of what is reported early than of the rest.
    pub judged_after: SignedDuration,
    /// Boots of the baseline that the candidate's are compared with at once. Where a minute has fewer, several are taken together.
    pub compared_with: u32,
    /// Failures must come from this many hosts.
    pub hosts_min: u32,
    /// Each test takes back, or withdraws, a release that does not deserve it once in this many rollouts at most.
    pub false_rollback_one_in: u32,
    /// The test for any regression pauses a release that has none once in this many rollouts at most.
    pub false_pause_one_in: u32,
    /// A release that is over its threshold is taken back once it is worse than the baseline by a test that is wrong once in
    /// this many. Where there are few boots, no test can be wrong rarely: until one agrees, the release is withdrawn only.
    pub agreed_one_in: u32,
    /// The share of hosts that may be set apart because only their boots of this release fail.
    pub apart_max: u16,
    /// What slow boots mean.
    pub slow: Slow,
    /// What a wave that never sees its boots means.
    pub overdue: Overdue,
    /// After a rollback, no rollout for this long.
    pub cool_down: SignedDuration,
    /// The share of hosts that must have a release before the fleet is taken back to it.
    pub way_back_present_min: u16,
}

impl Default for Plan {
    fn default() -> Self {
        let wave = |share, soak_minutes, wait_hours| Wave {
            share,
            sample_min: 50,
            soak_min: SignedDuration::from_mins(soak_minutes),
            wait_max: SignedDuration::from_hours(wait_hours),
        };
        Self {
            waves: vec![
                wave(100, 30, 24),
                wave(500, 30, 24),
                wave(2_500, 60, 24),
                wave(5_000, 60, 24),
                wave(WHOLE, 120, 24),
            ],
            probe: vec![16, 64, 256],
            distributed_min: 9_500,
            distribution_wait_max: SignedDuration::from_hours(48),
            holdback: 100,
            threshold: 1_000,
            margin: 500,
            sample_enough: 1_000,
            judged_after: SignedDuration::from_secs(90),
            compared_with: 50,
            hosts_min: 3,
            false_rollback_one_in: 10_000,
            false_pause_one_in: 1_000,
            agreed_one_in: 1_000,
            apart_max: 100,
            slow: Slow::Warn,
            overdue: Overdue::Pause,
            cool_down: SignedDuration::from_hours(1),
            way_back_present_min: 9_000,
        }
    }
}

impl Plan {
    /// For a fix that cannot wait: the same waves and the same tests with short soaks.
    pub fn emergency() -> Self {
        let plan = Self::default();
        let soaks = [5, 5, 10, 10, 15];
        let waves = plan.waves.iter().zip(soaks).map(|(wave, minutes)| Wave {
            soak_min: SignedDuration::from_mins(minutes),
            wait_max: SignedDuration::from_hours(1),
            ..wave.clone()
        });
        Self {
            waves: waves.collect(),
            probe: vec![16, 256],
            distributed_min: 8_000,
            distribution_wait_max: SignedDuration::from_hours(4),
            overdue: Overdue::Advance,
            ..plan
        }
    }

    /// How many waves there are.
    pub fn waves_count(&self) -> u8 {
        u8::try_from(self.waves.len()).unwrap_or(u8::MAX)
    }

    /// What one rollout has differently. What is not given stays.
    ///
    /// # Errors
    /// [`PlanError`]: the result makes no sense.
    pub fn with(mut self, changes: Override) -> Result<Self, PlanError> {
        let Override {
            waves,
            probe,
            distributed_min,
            distribution_wait_max,
            holdback,
            threshold,
            margin,
            sample_enough,
            judged_after,
            compared_with,
            hosts_min,
            false_rollback_one_in,
            false_pause_one_in,
            agreed_one_in,
            apart_max,
            slow,
            overdue,
            cool_down,
            way_back_present_min,
        } = changes;
        self.waves = waves.unwrap_or(self.waves);
        self.probe = probe.unwrap_or(self.probe);
        self.distributed_min = distributed_min.unwrap_or(self.distributed_min);
        self.distribution_wait_max = distribution_wait_max.unwrap_or(self.distribution_wait_max);
        self.holdback = holdback.unwrap_or(self.holdback);
        self.threshold = threshold.unwrap_or(self.threshold);
        self.margin = margin.unwrap_or(self.margin);
        self.sample_enough = sample_enough.unwrap_or(self.sample_enough);
        self.judged_after = judged_after.unwrap_or(self.judged_after);
        self.compared_with = compared_with.unwrap_or(self.compared_with);
        self.hosts_min = hosts_min.unwrap_or(self.hosts_min);
        self.false_rollback_one_in = false_rollback_one_in.unwrap_or(self.false_rollback_one_in);
        self.false_pause_one_in = false_pause_one_in.unwrap_or(self.false_pause_one_in);
        self.agreed_one_in = agreed_one_in.unwrap_or(self.agreed_one_in);
        self.apart_max = apart_max.unwrap_or(self.apart_max);
        self.slow = slow.unwrap_or(self.slow);
        self.overdue = overdue.unwrap_or(self.overdue);
        self.cool_down = cool_down.unwrap_or(self.cool_down);
        self.way_back_present_min = way_back_present_min.unwrap_or(self.way_back_present_min);
        self.check()?;
        Ok(self)
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// [`PlanError`]: the first thing that does not.
    pub fn check(&self) -> Result<(), PlanError> {
        let shares: Vec<u16> = self.waves.iter().map(|wave| wave.share).collect();
        if shares.is_empty() || shares.len() > WAVES_MAX {
            return Err(PlanError::Waves { found: shares.len() });
        }
        let rises = shares.first() > Some(&0) && shares.is_sorted_by(|a, b| a < b);
        if !rises || shares.last() != Some(&WHOLE) {
            return Err(PlanError::Shares);
        }
        let fits = |wave: &Wave| {
            !wave.soak_min.is_negative() && wave.soak_min <= wave.wait_max && wave.wait_max <= DURATION_MAX
        };
        if let Some(wave) = self.waves.iter().position(|wave| !fits(wave)) {
            return Err(PlanError::Durations { wave: wave + 1 });
        }
        let probe_rises = self.probe.first() != Some(&0) && self.probe.is_sorted_by(|a, b| a < b);
        if self.probe.len() > PROBE_MAX || !probe_rises {
            return Err(PlanError::Probe);
        }
        self.check_rule()
    }

    fn check_rule(&self) -> Result<(), PlanError> {
        if self.threshold == 0 || self.threshold > WHOLE / 2 || self.margin > WHOLE / 2 {
            return Err(PlanError::Threshold);
        }
        let below_half = self.holdback <= WHOLE / 2 && self.apart_max <= WHOLE / 10;
        let shares = self.distributed_min <= WHOLE && self.way_back_present_min <= WHOLE;
        if !below_half || !shares {
            return Err(PlanError::Share);
        }
        if self.hosts_min == 0 || self.sample_enough == 0 {
            return Err(PlanError::Sample);
        }
        let rest = [self.distribution_wait_max, self.judged_after, self.cool_down];
        if rest.iter().any(|time| time.is_negative() || *time > DURATION_MAX) {
            return Err(PlanError::Times);
        }
        if self.false_rollback_one_in < 100 || self.false_pause_one_in < 20 || self.agreed_one_in < 20 {
            return Err(PlanError::FalseAlarms);
        }
        Ok(())
    }
}

/// What one rollout has differently from the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "members mean what they mean in the plan")]
pub struct Override {
    pub waves: Option<Vec<Wave>>,
    pub probe: Option<Vec<u32>>,
    pub distributed_min: Option<u16>,
    pub distribution_wait_max: Option<SignedDuration>,
    pub holdback: Option<u16>,
    pub threshold: Option<u16>,
    pub margin: Option<u16>,
    pub sample_enough: Option<u32>,
    pub judged_after: Option<SignedDuration>,
    pub compared_with: Option<u32>,
    pub hosts_min: Option<u32>,
    pub false_rollback_one_in: Option<u32>,
    pub false_pause_one_in: Option<u32>,
    pub agreed_one_in: Option<u32>,
    pub apart_max: Option<u16>,
    pub slow: Option<Slow>,
    pub overdue: Option<Overdue>,
    pub cool_down: Option<SignedDuration>,
    pub way_back_present_min: Option<u16>,
}

/// Why a plan makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too few or too many waves.
    #[error("a plan has 1 to {WAVES_MAX} waves, this one has {found}")]
    Waves {
        /// How many there are.
        found: usize,
    },
    /// The shares do not rise to everything.
    #[error("the waves' shares must rise from above 0 to 100 %")]
    Shares,
    /// A wave's soak does not fit into its wait.
    #[error("wave {wave} must soak no longer than it may wait, and wait no longer than 31 days")]
    Durations {
        /// Which one, from 1.
        wave: usize,
    },
    /// A time that does not belong to a wave.
    #[error("distribution, judging and cool-down take 31 days at most")]
    Times,
    /// The probe's steps do not rise.
    #[error("the probe has {PROBE_MAX} steps at most, and each allows more boots than the one before")]
    Probe,
    /// Threshold or margin.
    #[error("the threshold must be above 0 and at most 50 %, the margin at most 50 %")]
    Threshold,
    /// Another share.
    #[error("the holdback is 50 % at most, hosts set apart 10 % at most, the other shares 100 % at most")]
    Share,
    /// A sample of nothing.
    #[error("failures must come from one host at least, and a sample is not empty")]
    Sample,
    /// False alarms that are no exceptions.
    #[error("a false rollback must be rarer than one in 100, a false pause than one in 20")]
    FalseAlarms,
}

impl PlanError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Waves { .. } => "plan_waves",
            Self::Shares => "plan_shares",
            Self::Durations { .. } => "plan_durations",
            Self::Times => "plan_times",
            Self::Probe => "plan_probe",
            Self::Threshold => "plan_threshold",
            Self::Share => "plan_share",
            Self::Sample => "plan_sample",
            Self::FalseAlarms => "plan_false_alarms",
        }
    }
}
