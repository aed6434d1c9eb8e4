//! A build's progress: a moving line on a terminal, plain lines elsewhere; always on standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use plfm_build::{Event, Phase, Progress};

/// How often the moving line moves.
const TICK: Duration = Duration::from_millis(120);
/// Where no line can move, one is printed for so many objects of the kernel.
const OBJECTS_PER_LINE: u32 = 250;
/// A phase that was shorter is not worth a second line.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Draws the events of a build.
pub struct BuildProgress {
    spinner: Option<ProgressBar>,
    phase: Option<(Phase, Instant)>,
}

impl BuildProgress {
    /// For whatever standard error is.
    pub fn new() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(TICK);
            spinner
        });
        Self { spinner, phase: None }
    }

    fn line(&self, text: &str) {
        match &self.spinner {
            Some(spinner) => spinner.println(text),
            None => eprintln!("{text}"),
        }
    }
}

impl Progress for BuildProgress {
    fn event(&mut self, event: Event<'_>) {
        match (event, &self.spinner) {
            (Event::Started(phase), spinner) => {
                match spinner {
                    Some(spinner) => {
                        spinner.reset_elapsed();
                        spinner.set_message(phase.to_string());
                    }
                    None => eprintln!("{phase} …"),
                }
                self.phase = Some((phase, Instant::now()));
            }
            (Event::Finished(phase), spinner) => {
                let elapsed = self
                    .phase
                    .take()
                    .map(|(_, started)| started.elapsed())
                    .unwrap_or_default();
                if spinner.is_some() || elapsed >= WORTH_A_LINE {
                    self.line(&format!("{phase}: done in {:.1} s", elapsed.as_secs_f64()));
                }
            }
            (Event::KernelObjects { built }, Some(spinner)) => {
                spinner.set_message(format!("{}: {built} objects", Phase::CompileKernel));
            }
            (Event::KernelObjects { built }, None) => {
                if built.is_multiple_of(OBJECTS_PER_LINE) {
                    self.line(&format!("{}: {built} objects", Phase::CompileKernel));
                }
            }
            (Event::Note(text), _) => self.line(text),
        }
    }
}

impl Drop for BuildProgress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
