//! `plfm admin events list`.

use clap::Args;
use plfm_api::control::{Event, EventPage, PAGE_LIMIT_MAX};

use super::FilterArgs;
use super::follow::find_end;
use super::render::{render_actor, render_detail};
use crate::admin::Control;
use crate::admin::client::ControlClient;
use crate::output::{Category, CliError};
use crate::table::render_table;
use crate::times::render_time;

/// Arguments of `plfm admin events list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// Pages read for the latest events about one thing, before there are said to be too many.
const PAGES_MAX: usize = 1_000;

impl ListArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let page = control.block_on(async |client| match (self.filter.after, &self.filter.aggregate) {
            (Some(after), _) => read_from(client, &self.filter, after, limit).await,
            (None, Some(_)) => read_latest_about(client, &self.filter, limit).await,
            // Positions have no gaps: the latest are counted back from the end.
            (None, None) => {
                let after = find_end(client).await?.saturating_sub(u64::from(self.limit));
                read_from(client, &self.filter, after, limit).await
            }
        })?;
        control.out.result(&page, |page| render(page, self.filter.after))
    }
}

/// So many events from a position on.
async fn read_from(
    client: &ControlClient,
    filter: &FilterArgs,
    after: u64,
    limit: usize,
) -> Result<EventPage, CliError> {
    let mut all = EventPage {
        items: Vec::new(),
        next_after: after,
        more: true,
    };
    while all.more && all.items.len() < limit {
        let page = read_page(client, filter, all.next_after, limit - all.items.len()).await?;
        all.items.extend(page.items);
        all.next_after = page.next_after;
        all.more = page.more;
    }
    Ok(all)
}

/// The latest about one thing: how many there are is known at the end only.
async fn read_latest_about(
    client: &ControlClient,
    filter: &FilterArgs,
    limit: usize,
) -> Result<EventPage, CliError> {
    let mut latest: Vec<Event> = Vec::new();
    let mut after = 0;
    for _ in 0..PAGES_MAX {
        let page = read_page(client, filter, after, PAGE_LIMIT_MAX).await?;
        latest.extend(page.items);
        latest.drain(..latest.len().saturating_sub(limit));
        after = page.next_after;
        if !page.more {
            return Ok(EventPage {
                items: latest,
                next_after: after,
                more: false,
            });
        }
    }
    let error = CliError::new(
        Category::Failure,
        "too_many_events",
        "there are too many events about that",
    );
    Err(error.with_hint(Some(format!("--after {after} goes on from here"))))
}

/// One page; one that says there is more and does not go on is an error, not a loop.
async fn read_page(
    client: &ControlClient,
    filter: &FilterArgs,
    after: u64,
    limit: usize,
) -> Result<EventPage, CliError> {
    let mut query = filter.query(after);
    query.push(("limit", limit.min(PAGE_LIMIT_MAX).to_string()));
    let page: EventPage = client.get(&["events"], &query).await?;
    match page.more && page.next_after <= after {
        true => Err(CliError::new(
            Category::Internal,
            "list_endless",
            "the control plane's list of events does not go on",
        )),
        false => Ok(page),
    }
}

fn render(page: &EventPage, after: Option<u64>) -> String {
    if page.items.is_empty() {
        return match after {
            Some(after) => format!("no events after {after}\n"),
            None => "no events\n".to_owned(),
        };
    }
    let rows = page.items.iter().map(|event| {
        [
            event.position.to_string(),
            render_time(event.at),
            event.kind.clone(),
            event.aggregate.clone(),
            render_actor(event),
            render_detail(event),
        ]
    });
    let table = render_table(["POSITION", "TIME", "WHAT", "ABOUT", "WHO", "DETAIL"], rows);
    match page.more {
        true => format!("{table}\nmore: --after {}\n", page.next_after),
        false => table,
    }
}
