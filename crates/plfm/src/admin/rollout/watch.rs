//! Following a rollout until it is over or waits for a person, and what comes of that.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use plfm_api::control::{PausedShare, Receipt, Rollout, RolloutDetail, RolloutMoment, RolloutStage};
use serde::Serialize;
use tokio::time::Instant;

use super::find;
use super::screen::Screen;
use super::state::render_state;
use super::story::Story;
use super::view::{render, render_with};
use crate::admin::Control;
use crate::admin::client::ControlClient;
use crate::admin::receipt::render_receipt;
use crate::admin::span::Span;
use crate::output::{Category, CliError, Output};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for the control plane to be there again: a rollout goes on by itself, and outlives a restart.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// From a withdrawal on: how long boots of the minutes before it may yet be compared, at most.
const COMPARED_WITHIN: SignedDuration = SignedDuration::from_mins(11);
/// Things that happened, on a page that has to fit a terminal.
const MOMENTS_SHOWN: usize = 5;

/// Whether to follow it, how, and for how long.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("following").args(["watch", "wait"])))]
pub struct FollowArgs {
    /// Show it until it is over or waits for a person: then exit code 1, unless it is complete; as JSON, one document per
    /// line
    #[arg(long)]
    watch: bool,
    /// Wait until it is over or waits for a person: then exit code 1, unless it is complete
    #[arg(long)]
    wait: bool,
    /// How long to do that at most: then exit code 6
    #[arg(long, value_name = "SPAN", requires = "following")]
    timeout: Option<Span>,
}

/// What a start prints.
#[derive(Debug, Serialize)]
struct StartReport<'a> {
    #[serde(flatten)]
    receipt: &'a Receipt,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited: Option<&'a Rollout>,
}

impl FollowArgs {
    /// Prints the receipt, and follows the rollout if that is wanted.
    pub async fn finish(
        &self,
        control: &Control<'_>,
        client: &ControlClient,
        receipt: &Receipt,
    ) -> Result<(), CliError> {
        let out = control.out;
        out.text(&render_receipt(receipt))?;
        let Some(id) = receipt.rollout.as_deref().filter(|_| self.watch || self.wait) else {
            return out.document(&StartReport {
                receipt,
                waited: None,
            });
        };
        if self.watch {
            out.text("")?;
            if out.json && !out.line(receipt, |_| String::new())? {
                return Ok(());
            }
            return watch(control, client, id, self.timeout, Teller::live(out)).await;
        }
        let mut teller = Teller::notes(out);
        let followed = follow(client, id, self.timeout, &mut teller).await;
        let report = |waited| StartReport { receipt, waited };
        let detail = match followed {
            Ok(Some(detail)) => detail,
            Ok(None) => return Ok(()),
            Err(error) => return Err(error.with_details(&report(None))),
        };
        let document = report(Some(&detail.rollout));
        ending(&detail).map_err(|error| error.with_details(&document))?;
        out.text(&detail.rollout.why)?;
        out.document(&document)
    }
}

/// Shows a rollout until it is over or waits for a person.
///
/// # Errors
/// Unless it is complete then.
pub async fn watch(
    control: &Control<'_>,
    client: &ControlClient,
    id: &str,
    timeout: Option<Span>,
    mut teller: Teller<'_>,
) -> Result<(), CliError> {
    let ended = match follow(client, id, timeout, &mut teller).await {
        Ok(None) => return Ok(()),
        Ok(Some(detail)) => teller.finish(&detail).and_then(|()| ending(&detail)),
        Err(error) => Err(error),
    };
    // What was printed are lines; the error is the last of them.
    ended.map_err(|error| match control.out.json {
        true => error.on_one_line(),
        false => error,
    })
}

/// Looks at it until it is over or waits for a person. None when nobody reads any more.
async fn follow(
    client: &ControlClient,
    id: &str,
    timeout: Option<Span>,
    teller: &mut Teller<'_>,
) -> Result<Option<RolloutDetail>, CliError> {
    let end = timeout.map(|timeout| Instant::now() + timeout.into());
    let mut heard = Instant::now();
    let mut last = String::new();
    loop {
        match find::get(client, id).await {
            Ok(detail) => {
                heard = Instant::now();
                if !teller.tell(&detail)? {
                    return Ok(None);
                }
                if has_ended(&detail, Timestamp::now()) {
                    return Ok(Some(detail));
                }
                last = render_state(&detail.rollout);
            }
            Err(error) if error.category != Category::Transient => return Err(error),
            Err(error) if heard.elapsed() > SILENCE_MAX => return Err(error),
            Err(error) => teller.trouble(&error)?,
        }
        if let (Some(timeout), Some(end)) = (timeout, end)
            && Instant::now() + LOOK_EVERY > end
        {
            return Err(timed_out(timeout, id, &last));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether nothing more becomes of it by itself.
fn has_ended(detail: &RolloutDetail, now: Timestamp) -> bool {
    let rollout = &detail.rollout;
    super::state::is_over(rollout.stage) || (rollout.paused.is_some() && !is_undecided(detail, now))
}

/// Whether it was withdrawn by itself, and may yet be taken back once the old release's boots of the same minutes were heard of.
fn is_undecided(detail: &RolloutDetail, now: Timestamp) -> bool {
    let judged_after = detail.plan.judged_after_seconds.unwrap_or(0);
    let decided_within = SignedDuration::from_secs(i64::from(judged_after)) + COMPARED_WITHIN;
    let is_withdrawn = detail.rollout.paused == Some(PausedShare::Withdrawn);
    let last = detail.history.last();
    let is_fresh = |moment: &RolloutMoment| {
        moment.actor.kind == "system" && now.duration_since(moment.at) < decided_within
    };
    is_withdrawn && last.is_some_and(is_fresh)
}

/// What the end of it means to whoever waited.
fn ending(detail: &RolloutDetail) -> Result<(), CliError> {
    let rollout = &detail.rollout;
    let (id, release) = (&rollout.id, &rollout.release);
    let (code, message, hint) = match rollout.stage {
        RolloutStage::Complete => return Ok(()),
        RolloutStage::RolledBack => (
            "rollout_rolled_back",
            format!("{release} was taken back: {}", why_of(detail, "condemned")),
            format!("`plfm admin rollout show {id}` has what its boots said"),
        ),
        RolloutStage::Aborted => (
            "rollout_aborted",
            format!(
                "the rollout of {release} was aborted: {}",
                why_of(detail, "aborted")
            ),
            format!("`plfm admin rollout show {id}` says by whom"),
        ),
        RolloutStage::Planned
        | RolloutStage::Distributing
        | RolloutStage::Canary
        | RolloutStage::Promoting
        | RolloutStage::RollingBack => (
            "rollout_paused",
            format!(
                "the rollout of {release} waits for a person: {}",
                why_of(detail, "paused")
            ),
            format!(
                "`plfm admin rollout resume {id}` lets it go on, `plfm admin rollout abort {id}` ends it"
            ),
        ),
    };
    Err(CliError::new(Category::Failure, code, message).with_hint(Some(hint)))
}

/// Why the last thing of this kind happened; why it is where it is, if none did.
fn why_of<'a>(detail: &'a RolloutDetail, kind: &str) -> &'a str {
    let moment = detail.history.iter().rev().find(|moment| moment.kind == kind);
    moment.map_or(&detail.rollout.why, |moment| &moment.why)
}

fn timed_out(timeout: Span, id: &str, last: &str) -> CliError {
    let state = match last.is_empty() {
        true => "the control plane does not show it yet".to_owned(),
        false => format!("it is at: {last}"),
    };
    let message = format!("the rollout goes on, but after {timeout} {state}");
    let hint = format!("`plfm admin rollout show {id} --watch` shows how far it is");
    CliError::new(Category::Transient, "wait_timed_out", message).with_hint(Some(hint))
}

/// Who tells an operator how it goes.
pub struct Teller<'a> {
    out: &'a Output,
    way: Way,
    story: Story,
    last: Option<RolloutDetail>,
    is_in_trouble: bool,
}

/// How it is told.
enum Way {
    /// A page that is drawn again.
    Page(Screen),
    /// Lines on standard output: JSON, or text.
    Lines,
    /// Lines on standard error: the result is to come.
    Notes,
}

impl<'a> Teller<'a> {
    fn new(out: &'a Output, way: Way) -> Self {
        Self {
            out,
            way,
            story: Story::default(),
            last: None,
            is_in_trouble: false,
        }
    }

    /// For whoever looks on.
    pub fn live(out: &'a Output) -> Self {
        let is_page = !out.json && io::stdout().is_terminal();
        let way = match is_page {
            true => Way::Page(Screen::default()),
            false => Way::Lines,
        };
        Self::new(out, way)
    }

    /// For whoever waits.
    fn notes(out: &'a Output) -> Self {
        Self::new(out, Way::Notes)
    }

    /// Tells what is new. False when nobody reads any more.
    fn tell(&mut self, detail: &RolloutDetail) -> Result<bool, CliError> {
        self.is_in_trouble = false;
        let now = Timestamp::now();
        match &mut self.way {
            Way::Page(screen) => {
                let page = render_with(detail, now, MOMENTS_SHOWN);
                self.last = Some(detail.clone());
                screen.draw(&page).map_err(|error| unwritable(&error))
            }
            Way::Lines if self.out.json => {
                if self.last.as_ref() == Some(detail) {
                    return Ok(true);
                }
                self.last = Some(detail.clone());
                self.out.line(detail, |_| String::new())
            }
            Way::Lines => {
                for line in self.story.news(detail, now) {
                    if !self.out.line(&(), |()| line)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Way::Notes => {
                for line in self.story.moments(detail) {
                    self.out.note(&line);
                }
                Ok(true)
            }
        }
    }

    /// Tells that the control plane does not answer.
    fn trouble(&mut self, error: &CliError) -> Result<(), CliError> {
        let text = format!("{}; trying again", error.message);
        if let Way::Page(screen) = &mut self.way {
            let page = self.last.as_ref().map(|detail| {
                let page = render_with(detail, Timestamp::now(), MOMENTS_SHOWN);
                format!("{text}\n{page}")
            });
            return screen
                .draw(&page.unwrap_or(text))
                .map(|_| ())
                .map_err(|error| unwritable(&error));
        }
        if !self.is_in_trouble {
            self.out.note(&text);
        }
        self.is_in_trouble = true;
        Ok(())
    }

    /// Leaves the last page, whole.
    fn finish(&mut self, detail: &RolloutDetail) -> Result<(), CliError> {
        match &mut self.way {
            Way::Page(screen) => screen
                .finish(&render(detail, Timestamp::now()))
                .map(|_| ())
                .map_err(|error| unwritable(&error)),
            Way::Lines if !self.out.json => match self.story.last_word(detail) {
                Some(line) => self.out.text(&line),
                None => Ok(()),
            },
            Way::Lines | Way::Notes => Ok(()),
        }
    }
}

fn unwritable(error: &io::Error) -> CliError {
    CliError::from_error(Category::Failure, "output_unwritable", error)
}
