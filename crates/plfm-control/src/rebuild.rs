//! The log without a control plane: the fleet made anew from it, and what a restore from a backup needs.

use jiff::Timestamp;
use plfm_api::control::Generation;

use crate::control::new_events;
use crate::fleet::{ApplyError, Command, Context, FleetState, Refusal};
use crate::init::system;
use crate::store::{AppendError, Store, StoreError};

/// Events that are read at once.
const PAGE: usize = 1_000;

/// Why the log cannot be replayed, or not be added to.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An event does not fit.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// It is not to be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Somebody else was faster, or the database failed.
    #[error("the log cannot be added to; try again")]
    Append(#[from] AppendError),
}

/// The fleet, from nothing but the log.
pub async fn rebuild(database: &str) -> Result<FleetState, RebuildError> {
    let store = Store::open(database).await?;
    let fleet = replay(&store).await;
    store.close().await;
    fleet
}

async fn replay(store: &Store) -> Result<FleetState, RebuildError> {
    let mut fleet = FleetState::default();
    loop {
        let events = store.events(fleet.position(), PAGE, None).await?;
        if events.is_empty() {
            return Ok(fleet);
        }
        events.iter().try_for_each(|event| fleet.apply(event))?;
    }
}

/// Raises the generation after a restore. Returns what was done, in words.
pub async fn raise_generation(database: &str, to: u64, reason: String) -> Result<String, RebuildError> {
    let store = Store::open(database).await?;
    let fleet = replay(&store).await?;
    let now = Timestamp::now();
    let command = Command::RaiseGeneration {
        to: Generation(to),
        reason,
    };
    let decision = fleet.decide(&command, &Context::at(now))?;
    let events = new_events(&decision, &system("restore"), now);
    store.append(fleet.position(), &events, None).await?;
    store.close().await;
    Ok(decision.summary)
}
