//! `--wait`: until every active host boots the release that was made the default.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use plfm_api::control::{Fleet, HostState, Receipt};
use serde::Serialize;
use tokio::time::Instant;

use super::Control;
use super::client::ControlClient;
use super::receipt::render_receipt;
use super::span::Span;
use crate::output::{Category, CliError};

/// How often the fleet is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for the control plane to be there again.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Whether to wait, and for how long.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Wait until every active host boots it
    #[arg(long)]
    wait: bool,
    /// How long to wait at most: then exit code 6
    #[arg(long, value_name = "SPAN", default_value = "10m", requires = "wait")]
    timeout: Span,
}

/// What a change of the default prints.
#[derive(Debug, Serialize)]
struct ChangeReport<'a> {
    #[serde(flatten)]
    receipt: &'a Receipt,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited: Option<Progress>,
}

/// How far the fleet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Of those: hosts whose new instances boot the default.
    pub hosts_at_default: u64,
    /// Hosts that are there: neither lost nor revoked. Those that drain count: what they boot next is the default too.
    pub hosts_active: u64,
}

impl Progress {
    /// Of a fleet.
    pub fn of(fleet: &Fleet) -> Self {
        let count = |state: HostState| fleet.hosts.get(state.as_str()).copied().unwrap_or_default();
        Self {
            hosts_at_default: fleet.hosts_at_default,
            hosts_active: count(HostState::Active) + count(HostState::Draining),
        }
    }

    fn is_done(self) -> bool {
        self.hosts_at_default >= self.hosts_active
    }
}

impl WaitArgs {
    /// Prints the receipt, and waits if that is wanted.
    pub async fn finish(
        &self,
        control: &Control<'_>,
        client: &ControlClient,
        receipt: &Receipt,
    ) -> Result<(), CliError> {
        // What is done is done: people see it before the wait, whatever becomes of that.
        control.out.text(&render_receipt(receipt))?;
        let waited = match self.wait {
            true => Some(self.watch(control, client, receipt).await?),
            false => None,
        };
        if let Some(progress) = waited {
            control.out.text(&render_done(progress))?;
        }
        control.out.document(&ChangeReport { receipt, waited })
    }

    async fn watch(
        &self,
        control: &Control<'_>,
        client: &ControlClient,
        receipt: &Receipt,
    ) -> Result<Progress, CliError> {
        let mut view = View::new(control);
        let end = Instant::now() + self.timeout.into();
        let mut heard = Instant::now();
        let mut last = None;
        loop {
            match client.get::<Fleet>(&["fleet"], &[]).await {
                Ok(fleet) => {
                    heard = Instant::now();
                    // A replica may not have followed yet.
                    if fleet.target.generation >= receipt.generation {
                        check_still_meant(&fleet, receipt)?;
                        let progress = Progress::of(&fleet);
                        view.show(progress);
                        if progress.is_done() {
                            return Ok(progress);
                        }
                        last = Some(progress);
                    }
                }
                Err(error) if error.category != Category::Transient => return Err(error),
                Err(error) if heard.elapsed() > SILENCE_MAX => return Err(error),
                Err(_) => {}
            }
            if Instant::now() + LOOK_EVERY > end {
                return Err(timed_out(self.timeout, receipt, last));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether it is still this change that the fleet follows.
fn check_still_meant(fleet: &Fleet, receipt: &Receipt) -> Result<(), CliError> {
    let Some(release) = &receipt.release else {
        return Ok(());
    };
    if fleet.target.default.as_ref() == Some(release) {
        return Ok(());
    }
    let by_now = match &fleet.target.default {
        Some(other) => other.to_string(),
        None => "none".to_owned(),
    };
    let message = format!(
        "{release} is not the default any more: {by_now} is, since generation {} at the latest",
        fleet.target.generation
    );
    let error = CliError::new(Category::Conflict, "default_superseded", message);
    Err(error.with_hint(Some(
        "`plfm admin events list --aggregate fleet` says by whom".to_owned(),
    )))
}

fn timed_out(timeout: Span, receipt: &Receipt, last: Option<Progress>) -> CliError {
    let state = match last {
        Some(progress) => format!(
            "{} of {} active hosts boot it",
            progress.hosts_at_default, progress.hosts_active
        ),
        None => "the control plane does not show the change yet".to_owned(),
    };
    let message = format!("the change is made, but after {timeout} {state}");
    let hint =
        "it goes on by itself: `plfm admin fleet` shows how far it is, `plfm admin hosts list` who is behind";
    let mut error =
        CliError::new(Category::Transient, "wait_timed_out", message).with_hint(Some(hint.to_owned()));
    error.details = Some(Box::new(
        serde_json::json!({ "receipt": receipt, "waited": last }),
    ));
    error
}

fn render_done(progress: Progress) -> String {
    match progress.hosts_active {
        0 => "no host is active: the next one to come boots it".to_owned(),
        active => format!("{} of {active} active hosts boot it", progress.hosts_at_default),
    }
}

/// What is shown meanwhile, on standard error: a bar on a terminal, else a line with each step.
struct View<'a, 'b> {
    control: &'a Control<'b>,
    bar: Option<ProgressBar>,
    last: Option<Progress>,
}

impl<'a, 'b> View<'a, 'b> {
    fn new(control: &'a Control<'b>) -> Self {
        let bar = (!control.out.json && std::io::stderr().is_terminal()).then(|| {
            let template = "{bar:30} {pos} of {len} active hosts boot it, {elapsed}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Self {
            control,
            bar,
            last: None,
        }
    }

    fn show(&mut self, progress: Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.hosts_active);
            bar.set_position(progress.hosts_at_default);
            bar.tick();
        } else if self.last != Some(progress) && !progress.is_done() {
            self.control.out.note(&format!(
                "waiting: {} of {} active hosts boot it",
                progress.hosts_at_default, progress.hosts_active
            ));
        }
        self.last = Some(progress);
    }
}

impl Drop for View<'_, '_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
