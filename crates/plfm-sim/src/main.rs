//! Tries rules for rollouts on a fleet of simulated hosts.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use plfm_sim::bound::BOUNDS;
use plfm_sim::campaign::{self, Campaign, Results};
use plfm_sim::cell::Trial;
use plfm_sim::fleet::Fleet;
use plfm_sim::judge::Rule;
use plfm_sim::rival::RivalRule;
use plfm_sim::scenario::{SCENARIOS, Scenario, scenario};
use plfm_sim::world::simulate;
use plfm_sim::{plot, table};

/// Tries rules for rollouts on a fleet of simulated hosts
#[derive(Parser)]
#[command(name = "plfm-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one scenario many times
    Run {
        /// Which one
        #[arg(long)]
        scenario: String,
        /// Under which rule
        #[arg(long, value_enum, default_value = "plfm")]
        rule: RuleName,
        #[command(flatten)]
        runs: Runs,
    },
    /// Run every scenario under every rule; what a file has already is not run again
    All {
        /// Under these rules only
        #[arg(long, value_enum, value_delimiter = ',', default_values = ["plfm", "bare10", "fixed-threshold", "no-canary"])]
        rules: Vec<RuleName>,
        #[command(flatten)]
        runs: Runs,
    },
    /// Tell one rollout, step by step
    Tell {
        /// Which scenario
        #[arg(long)]
        scenario: String,
        /// Under which plan of this project's
        #[arg(long, value_enum, default_value = "plfm")]
        rule: RuleName,
        /// Which run
        #[arg(long, default_value_t = 0)]
        run: u64,
        /// Where chance begins
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Hosts
        #[arg(long, default_value_t = 100_000)]
        hosts: u32,
    },
    /// List the scenarios
    List,
    /// Say whether what was measured shows what the rule is to be worth
    Check {
        /// What `all` wrote
        #[arg(long)]
        json: PathBuf,
    },
    /// Print what was measured as tables in Markdown
    Table {
        /// What `run` or `all` wrote
        #[arg(long)]
        json: PathBuf,
    },
    /// Draw what was measured
    Plot {
        /// What `run` or `all` wrote
        #[arg(long)]
        json: PathBuf,
        /// The directory for the SVG files
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Args)]
struct Runs {
    /// How many times; by default 2,000, and more where a small share is to be shown
    #[arg(long)]
    runs: Option<u64>,
    /// How many at once
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hosts
    #[arg(long, default_value_t = 100_000)]
    hosts: u32,
    /// Seconds after which a cell ends with the runs that it has
    #[arg(long)]
    seconds_max: Option<u64>,
    /// Where to keep the result, cell by cell
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuleName {
    Plfm,
    PlfmEmergency,
    PlfmLong,
    Bare10,
    FixedThreshold,
    NoCanary,
}

impl RuleName {
    fn rule(self) -> Rule {
        match self {
            Self::Plfm => Rule::usual(),
            Self::PlfmEmergency => Rule::emergency(),
            Self::PlfmLong => Rule::long(),
            Self::Bare10 => Rule::Rival(RivalRule::Bare),
            Self::FixedThreshold => Rule::Rival(RivalRule::Fixed),
            Self::NoCanary => Rule::Rival(RivalRule::NoCanary),
        }
    }
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run { scenario, rule, runs } => run(&[find(&scenario)?], &[rule], &runs),
        Command::All { rules, runs } => run(&SCENARIOS.iter().collect::<Vec<_>>(), &rules, &runs),
        Command::Tell {
            scenario,
            rule,
            run,
            seed,
            hosts,
        } => tell(find(&scenario)?, &rule.rule(), &Fleet::new(hosts), seed, run),
        Command::List => {
            for scenario in SCENARIOS {
                println!("{:<18} {}", scenario.name, scenario.about);
            }
            Ok(())
        }
        Command::Check { json } => check(&Results::load(&json)?),
        Command::Table { json } => {
            print!("{}", table::markdown(&Results::load(&json)?));
            Ok(())
        }
        Command::Plot { json, out } => plot::draw(&Results::load(&json)?, &out),
    }
}

fn find(name: &str) -> Result<&'static Scenario> {
    match scenario(name) {
        Some(found) => Ok(found),
        None => bail!("there is no scenario {name:?}; see `plfm-sim list`"),
    }
}

fn run(scenarios: &[&'static Scenario], rules: &[RuleName], runs: &Runs) -> Result<()> {
    let mut campaign = Campaign::open(runs.json.as_deref())?;
    let fleet = Fleet::new(runs.hosts);
    println!("{}", table::HEADER);
    for rule in rules.iter().map(|name| name.rule()) {
        for scenario in scenarios {
            let trial = Trial {
                fleet: &fleet,
                scenario,
                rule: &rule,
                seed: runs.seed,
            };
            let wanted = runs.runs.unwrap_or_else(|| campaign::runs(scenario, &rule));
            if let Some(cell) = campaign.done(&trial.key(), wanted) {
                println!("{}", table::line(cell));
                continue;
            }
            let begun = Instant::now();
            let goes_on = || {
                runs.seconds_max
                    .is_none_or(|most| begun.elapsed().as_secs() < most)
            };
            let cell = trial.cell(wanted, runs.jobs, goes_on);
            println!("{}", table::line(&cell));
            campaign.keep(cell)?;
        }
    }
    Ok(())
}

fn tell(scenario: &Scenario, rule: &Rule, fleet: &Fleet, seed: u64, run: u64) -> Result<()> {
    let told = simulate(fleet, scenario, rule, seed, run);
    let (run, said) = told.context("the rule cannot begin")?;
    for (seconds, why) in said {
        println!("{:>7.0} s  {why}", seconds);
    }
    println!("{}", serde_json::to_string(&run)?);
    Ok(())
}

fn check(results: &Results) -> Result<()> {
    print!("{}", table::bounds(results));
    let open = BOUNDS.iter().filter(|bound| !table::holds(results, bound));
    let open: Vec<String> = open.map(|bound| format!("{}: {bound}", bound.scenario)).collect();
    ensure!(open.is_empty(), "not shown: {}", open.join("; "));
    Ok(())
}
