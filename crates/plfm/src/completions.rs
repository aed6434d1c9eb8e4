//! `plfm completions` and `plfm man`: made from the command itself.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use serde::Serialize;

use crate::output::{Category, CliError, Output};

/// Arguments of `plfm completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script.
    pub fn run(self, out: &Output, mut command: Command) -> Result<(), CliError> {
        if out.json {
            let error = CliError::new(Category::Usage, "no_json_here", "a shell's script is not JSON");
            return Err(error.with_hint(Some("leave --output json out".to_owned())));
        }
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "plfm", &mut script);
        out.text(&String::from_utf8_lossy(&script))
    }
}

/// Arguments of `plfm man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory to put the pages in
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What `plfm man` prints.
#[derive(Debug, Serialize)]
struct ManReport {
    dir: PathBuf,
    pages: usize,
}

impl ManArgs {
    /// Writes a page for every verb.
    pub fn run(self, out: &Output, command: Command) -> Result<(), CliError> {
        let written = std::fs::create_dir_all(&self.out)
            .and_then(|()| clap_mangen::generate_to(command.disable_help_subcommand(true), &self.out))
            .and_then(|()| std::fs::read_dir(&self.out));
        let pages = written.map_err(|error| {
            let message = format!("cannot write man pages to {}: {error}", self.out.display());
            CliError::new(Category::Failure, "man_unwritable", message)
        })?;
        let report = ManReport {
            pages: pages.count(),
            dir: self.out,
        };
        out.result(&report, |report| {
            format!("{} pages in {}", report.pages, report.dir.display())
        })
    }
}
