//! Consent to what cannot be taken back, or takes the fleet somewhere else.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use crate::harmless::harmless_text;
use crate::output::{Category, CliError};

/// How consent is given.
#[derive(Debug, Args)]
pub struct Consent {
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Never ask: refuse instead, as where there is no terminal
    #[arg(long)]
    no_input: bool,
}

impl Consent {
    /// Whether consent was given, or somebody can be asked; before what is to be asked is known whole.
    ///
    /// # Errors
    /// Exit code 2 where nobody can be asked.
    pub fn check_askable(&self, what: &str) -> Result<(), CliError> {
        let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
        if self.yes || (can_ask && !self.no_input) {
            return Ok(());
        }
        let message = format!("{what}: that needs a yes, and there is no terminal to ask on");
        let error = CliError::new(Category::Usage, "confirmation_needed", message);
        Err(error.with_hint(Some("--yes says it".to_owned())))
    }

    /// Asks, unless consent was given on the command line.
    ///
    /// # Errors
    /// Exit code 2 where nobody can be asked, 1 when the answer is no.
    pub fn ask(&self, question: &str) -> Result<(), CliError> {
        if self.yes {
            return Ok(());
        }
        self.check_askable(question)?;
        eprint!("{}? [y/N] ", harmless_text(question));
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        match (read, answer.trim()) {
            (Ok(_), "y" | "Y" | "yes") => Ok(()),
            _ => Err(CliError::new(
                Category::Failure,
                "declined",
                "nothing was changed",
            )),
        }
    }
}
