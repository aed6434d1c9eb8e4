//! Tries rules for rollouts on a fleet of simulated hosts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use plfm_rollout::rollout::Plan;
use plfm_sim::cell::{Cell, Spread, run_cell};
use plfm_sim::fleet::Fleet;
use plfm_sim::judge::Rule;
use plfm_sim::rival::RivalRule;
use plfm_sim::scenario::{SCENARIOS, Scenario, scenario};
use plfm_sim::world::simulate;

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
    /// Run every scenario under every rule
    All {
        #[command(flatten)]
        runs: Runs,
    },
    /// Tell one rollout, step by step
    Tell {
        /// Which scenario
        #[arg(long)]
        scenario: String,
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
    /// How many times
    #[arg(long, default_value_t = 100)]
    runs: u64,
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hosts
    #[arg(long, default_value_t = 100_000)]
    hosts: u32,
    /// The emergency plan instead of the usual one
    #[arg(long)]
    emergency: bool,
    /// Seconds after which a cell ends with the runs that it has
    #[arg(long)]
    seconds_max: Option<u64>,
    /// Where to write the result
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuleName {
    Plfm,
    Bare10,
    FixedThreshold,
    NoCanary,
}

impl RuleName {
    fn rule(self, runs: &Runs) -> Rule {
        match self {
            Self::Plfm if runs.emergency => Rule::Project(Plan::emergency()),
            Self::Plfm => Rule::Project(Plan::default()),
            Self::Bare10 => Rule::Rival(RivalRule::Bare),
            Self::FixedThreshold => Rule::Rival(RivalRule::Fixed),
            Self::NoCanary => Rule::Rival(RivalRule::NoCanary),
        }
    }
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run { scenario, rule, runs } => run(&[find(&scenario)?], &[rule], &runs),
        Command::All { runs } => run(
            &SCENARIOS.iter().collect::<Vec<_>>(),
            RuleName::value_variants(),
            &runs,
        ),
        Command::Tell {
            scenario,
            run,
            seed,
            hosts,
        } => {
            let rule = Rule::Project(Plan::default());
            let told = simulate(&Fleet::new(hosts), find(&scenario)?, &rule, seed, run);
            let (run, said) = told.context("the rule cannot begin")?;
            for (seconds, why) in said {
                println!("{:>7.0} s  {why}", seconds);
            }
            println!("{}", serde_json::to_string(&run)?);
            Ok(())
        }
        Command::List => {
            for scenario in SCENARIOS {
                println!("{:<18} {}", scenario.name, scenario.about);
            }
            Ok(())
        }
        Command::Plot { json, out } => plfm_sim::plot::draw(&json, &out),
    }
}

fn find(name: &str) -> Result<&'static Scenario> {
    match scenario(name) {
        Some(found) => Ok(found),
        None => bail!("there is no scenario {name:?}; see `plfm-sim list`"),
    }
}

fn run(scenarios: &[&'static Scenario], rules: &[RuleName], runs: &Runs) -> Result<()> {
    let mut cells = Vec::new();
    println!("{}", HEADER);
    for scenario in scenarios {
        for rule in rules {
            let fleet = Fleet::new(runs.hosts);
            let begun = Instant::now();
            let goes_on = || {
                runs.seconds_max
                    .is_none_or(|most| begun.elapsed().as_secs() < most)
            };
            let (cell, _) = run_cell(&fleet, scenario, &rule.rule(runs), runs.runs, runs.seed, goes_on);
            println!("{}", line(&cell));
            cells.push(cell);
            if let Some(path) = &runs.json {
                write(path, &cells)?;
            }
        }
    }
    Ok(())
}

fn write(path: &Path, cells: &[Cell]) -> Result<()> {
    let text = serde_json::to_string_pretty(cells)?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

const HEADER: &str = "SCENARIO           RULE             ROLLED BACK              STOPPED                  ACTED                    STOPPED IN WAVE 1        FAILED p50/p99/max   EXPOSED p50      STOP p50/p99 s";

fn line(cell: &Cell) -> String {
    let three = |spread: Option<Spread>| {
        spread.map_or("-".to_owned(), |s| {
            format!("{:.0}/{:.0}/{:.0}", s.median, s.p99, s.max)
        })
    };
    let two =
        |spread: Option<Spread>| spread.map_or("-".to_owned(), |s| format!("{:.0}/{:.0}", s.median, s.p99));
    format!(
        "{:<18} {:<16} {:<24} {:<24} {:<24} {:<24} {:<20} {:<16} {}",
        cell.scenario,
        cell.rule,
        cell.rolled_back.to_string(),
        cell.stopped.to_string(),
        cell.acted.to_string(),
        cell.stopped_in_wave_1.to_string(),
        three(cell.failed),
        cell.exposed
            .map_or("-".to_owned(), |s| format!("{:.0}", s.median)),
        two(cell.stopped_after),
    )
}
