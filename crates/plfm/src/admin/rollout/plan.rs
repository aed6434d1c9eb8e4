//! How a release is to be rolled out: a base, a file, and single numbers on the command line, the latter before the former.

use clap::{Args, ValueEnum};
use plfm_api::control::{OverdueWave, PlanBase, RolloutPlan, SlowBoots};

use super::plan_file;
use crate::admin::weight::Weight;
use crate::output::CliError;

/// Heading of the plan's options.
const HEADING: &str = "Plan";

/// The options that make the plan. What none of them says is the base's.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// What it starts from: usual, or emergency with short soaks
    #[arg(long, value_name = "BASE", help_heading = HEADING)]
    plan: Option<Base>,
    /// File with a plan in TOML or JSON, or what `rollout show --output json` printed; - for standard input
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    plan_file: Option<String>,
    /// Failure rate that the release may not have, such as 10%
    #[arg(long, value_name = "PERCENT", help_heading = HEADING)]
    threshold: Option<Weight>,
    /// How much more of its boots than of the old release's may fail, such as 5%
    #[arg(long, value_name = "PERCENT", help_heading = HEADING)]
    margin: Option<Weight>,
    /// How many hosts failures must come from
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = HEADING)]
    hosts_min: Option<u32>,
    /// What becomes of it when its boots are slow: warn or pause
    #[arg(long, value_name = "WHAT", help_heading = HEADING)]
    slow: Option<Slow>,
    /// What becomes of a wave that never sees its boots: pause or advance
    #[arg(long, value_name = "WHAT", help_heading = HEADING)]
    overdue: Option<Overdue>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Base {
    /// For every day
    Usual,
    /// For a fix that cannot wait: short soaks
    Emergency,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Slow {
    /// It is said
    Warn,
    /// It waits for a person
    Pause,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Overdue {
    /// It waits for a person
    Pause,
    /// The next wave begins, if nothing speaks against it
    Advance,
}

impl PlanArgs {
    /// The plan as it is sent: what is not said is left out.
    pub fn plan(&self) -> Result<RolloutPlan, CliError> {
        let mut plan = match &self.plan_file {
            Some(file) => plan_file::load(file)?,
            None => RolloutPlan::default(),
        };
        if let Some(base) = self.plan {
            plan.base = match base {
                Base::Usual => PlanBase::Usual,
                Base::Emergency => PlanBase::Emergency,
            };
        }
        let share = |weight: Option<Weight>| weight.map(|Weight(share)| share);
        plan.threshold = share(self.threshold).or(plan.threshold);
        plan.margin = share(self.margin).or(plan.margin);
        plan.hosts_min = self.hosts_min.or(plan.hosts_min);
        let slow = self.slow.map(|slow| match slow {
            Slow::Warn => SlowBoots::Warn,
            Slow::Pause => SlowBoots::Pause,
        });
        plan.slow = slow.or(plan.slow);
        let overdue = self.overdue.map(|overdue| match overdue {
            Overdue::Pause => OverdueWave::Pause,
            Overdue::Advance => OverdueWave::Advance,
        });
        plan.overdue = overdue.or(plan.overdue);
        Ok(plan)
    }
}
