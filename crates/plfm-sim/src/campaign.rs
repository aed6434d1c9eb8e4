//! All cells that are to be run, one after the other, into one file.
//!
//! The file is written after each cell, and a campaign that is begun again goes on with the first cell that is missing there.
//! It names the program that ran: cells of two programs are never in one file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use plfm_release::Sha256Digest;
use serde::{Deserialize, Serialize};

use crate::bound::{self, BOUNDS};
use crate::cell::{Cell, Key};
use crate::judge::Rule;
use crate::scenario::Scenario;

/// Runs of a cell of which nothing in particular is to be shown.
const RUNS: u64 = 2_000;

/// What was measured, and by what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The digest of the program that ran.
    pub program: String,
    /// What it found.
    pub cells: Vec<Cell>,
}

/// What was measured so far, and the file that it is in, if any.
#[derive(Debug)]
pub struct Campaign {
    path: Option<PathBuf>,
    results: Results,
}

/// How many runs a cell takes: more where a small share is to be shown.
pub fn runs(scenario: &Scenario, rule: &Rule) -> u64 {
    let is_bounded = BOUNDS.iter().any(|bound| bound.scenario == scenario.name);
    match rule {
        Rule::Project { .. } if is_bounded => bound::RUNS,
        Rule::Project { .. } | Rule::Rival(_) => RUNS,
    }
}

impl Results {
    /// What is in a file.
    ///
    /// # Errors
    /// It cannot be read, or is not what `run` or `all` wrote.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "understanding {}: is it what `plfm-sim all --json` wrote?",
                path.display()
            )
        })
    }

    /// Of a scenario under a rule, in the largest fleet.
    pub fn find(&self, scenario: &str, rule: &str) -> Option<&Cell> {
        let cells = self.cells.iter();
        cells
            .filter(|cell| cell.key.scenario == scenario && cell.key.rule == rule)
            .max_by_key(|cell| cell.key.hosts)
    }
}

impl Campaign {
    /// Begins one, or goes on with what a file has.
    ///
    /// # Errors
    /// The file is there and not this program's, or cannot be read.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let program = program()?;
        let begun = path.map(Results::load).transpose();
        let results = match begun {
            Err(error) if is_missing(&error) => None,
            begun => begun?,
        };
        let results = results.unwrap_or(Results {
            program: program.clone(),
            cells: Vec::new(),
        });
        ensure!(
            results.program == program,
            "what is in {} was measured by another build: take another file, or remove it",
            path.unwrap_or(Path::new("")).display()
        );
        Ok(Self {
            path: path.map(Path::to_owned),
            results,
        })
    }

    /// A cell that was run at least so often.
    pub fn done(&self, key: &Key, runs: u64) -> Option<&Cell> {
        let mut cells = self.results.cells.iter();
        cells.find(|cell| cell.key == *key && cell.rolled_back.of >= runs)
    }

    /// Keeps a cell.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&mut self, cell: Cell) -> Result<()> {
        self.results.cells.retain(|other| other.key != cell.key);
        self.results.cells.push(cell);
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_string_pretty(&self.results)?;
        // A campaign that is ended while it writes keeps what it had.
        let new = path.with_extension("new");
        fs::write(&new, text).with_context(|| format!("writing {}", new.display()))?;
        fs::rename(&new, path).with_context(|| format!("writing {}", path.display()))
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == ErrorKind::NotFound)
}

/// The digest of the program that runs.
fn program() -> Result<String> {
    let path = std::env::current_exe().context("finding this program's own file")?;
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Sha256Digest::of(&bytes).to_string())
}
