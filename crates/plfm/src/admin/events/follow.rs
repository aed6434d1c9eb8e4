//! `plfm admin events --follow`: a request that is held back until there is news, again and again.

use std::time::Duration;

use plfm_api::control::EventPage;
use tokio::time::Instant;

use super::FilterArgs;
use super::render::render_line;
use crate::admin::Control;
use crate::admin::client::ControlClient;
use crate::output::{Category, CliError};

/// How long an answer is held back.
const HELD_SECONDS: u64 = 55;
/// How long it may take: that, and what the way takes.
const ANSWER_MAX: Duration = Duration::from_secs(HELD_SECONDS + 15);
/// Failures in a row before it is given up: ten minutes of an outage.
const FAILURES_MAX: u32 = 20;
/// Wait after a failure.
const FAILURE_WAIT: Duration = Duration::from_secs(30);
/// Wait after an answer that was not held back though there is no news: too many are waiting there.
const IDLE_WAIT: Duration = Duration::from_secs(2);
/// What no event is about.
const NOTHING: &str = "host/none";

/// Follows the log until interrupted, or until nobody reads any more.
pub fn run(control: &Control, filter: &FilterArgs) -> Result<(), CliError> {
    control.block_on(async |client| {
        let mut after = match filter.after {
            Some(after) => after,
            None => find_end(client).await?,
        };
        let mut failures = 0;
        loop {
            let asked = Instant::now();
            match read(client, filter, after).await {
                Ok(page) => {
                    failures = 0;
                    if page.items.is_empty() && asked.elapsed() < IDLE_WAIT {
                        tokio::time::sleep(IDLE_WAIT).await;
                    }
                    after = after.max(page.next_after);
                    for event in &page.items {
                        if !control.out.line(event, render_line)? {
                            return Ok(());
                        }
                    }
                }
                Err(error) if error.category == Category::Transient && failures < FAILURES_MAX => {
                    if failures == 0 {
                        control.out.note(&format!("{}; trying again", error.message));
                    }
                    failures += 1;
                    tokio::time::sleep(FAILURE_WAIT).await;
                }
                Err(error) => return Err(error.on_one_line()),
            }
        }
    })
}

async fn read(client: &ControlClient, filter: &FilterArgs, after: u64) -> Result<EventPage, CliError> {
    let mut query = filter.query(after);
    query.push(("wait_seconds", HELD_SECONDS.to_string()));
    client.get_within(ANSWER_MAX, &["events"], &query).await
}

/// Where the log ends: what a page says that was read to the end and has nothing in it.
pub async fn find_end(client: &ControlClient) -> Result<u64, CliError> {
    let query = [("aggregate", NOTHING.to_owned()), ("limit", "1".to_owned())];
    let page: EventPage = client.get(&["events"], &query).await?;
    Ok(page.next_after)
}
