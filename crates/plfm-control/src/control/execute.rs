//! Commands: decided from the log's end, appended only if it still is its end.

use jiff::Timestamp;
use plfm_api::control::{Actor, Generation};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::{Control, ControlError};
use crate::fleet::{Command, Decision, Fact};
use crate::store::{Answer, AppendError, NewEvent};

/// How often a command is decided anew because others were faster. With two replicas at full load, three times is rare.
const ATTEMPTS_MAX: u32 = 32;

/// What makes a request the same as an earlier one.
#[derive(Debug, Clone)]
pub struct Request {
    /// SHA-256 of the idempotency key.
    pub key_sha256: [u8; 32],
    /// SHA-256 of method, path and body.
    pub body_sha256: [u8; 32],
    /// Who asks: a token's id.
    pub principal: String,
}

impl Request {
    /// A request with a key.
    pub fn new(key: &str, principal: &str, method: &str, path: &str, body: &[u8]) -> Self {
        let mut asked = Sha256::new();
        for part in [method, path] {
            asked.update(part);
            asked.update([0]);
        }
        asked.update(body);
        Self {
            key_sha256: Sha256::digest(key).into(),
            body_sha256: asked.finalize().into(),
            principal: principal.to_owned(),
        }
    }
}

/// What a command came to, and what it was decided from.
#[derive(Debug)]
pub struct Done {
    /// The decision.
    pub decision: Decision,
    /// The fleet's generation before.
    pub before: Generation,
    /// The last event, if anything changed.
    pub event: Option<u64>,
}

/// An answer that is kept: the status and the body.
pub type Kept = (u16, Vec<u8>);

impl Control {
    /// Carries a command out, and answers. The same request again gets the same answer.
    pub async fn answer(
        &self,
        command: &Command,
        actor: &Actor,
        request: &Request,
        render: impl Fn(Done) -> Result<Kept, serde_json::Error> + Send,
    ) -> Result<Kept, ControlError> {
        let (kept, _) = self.carry_out(command, actor, Some(request), render).await?;
        Ok(kept)
    }

    /// Carries a command out that has no operator's request.
    pub async fn execute(&self, command: &Command, actor: &Actor) -> Result<Done, ControlError> {
        let render = |_: Done| Ok((0, Vec::new()));
        let (_, done) = self.carry_out(command, actor, None, render).await?;
        // Without a request there is no earlier answer.
        done.ok_or(ControlError::Contended)
    }

    async fn carry_out(
        &self,
        command: &Command,
        actor: &Actor,
        request: Option<&Request>,
        render: impl Fn(Done) -> Result<Kept, serde_json::Error> + Send,
    ) -> Result<(Kept, Option<Done>), ControlError> {
        for attempt in 0..ATTEMPTS_MAX {
            // One at a time here; against other replicas the log's head decides.
            let deciding = self.0.deciding.lock().await;
            self.catch_up().await?;
            if let Some(kept) = self.kept(request).await? {
                return Ok((kept, None));
            }
            let fleet = self.fleet();
            let now = self.now();
            let context = self.context(&fleet, command, now).await?;
            let decision = fleet.decide(command, &context)?;
            let events = new_events(&decision, actor, now);
            let event = u64::try_from(events.len()).ok().filter(|count| *count > 0);
            let (before, position) = (fleet.generation(), fleet.position());
            // Whoever holds the state while it changes makes it be copied.
            drop(fleet);
            let done = || Done {
                decision: decision.clone(),
                before,
                event: event.map(|count| position + count),
            };
            let kept = render(done()).map_err(ControlError::KeptAnswer)?;
            let answer = request.map(|request| Answer {
                key_sha256: request.key_sha256,
                principal: request.principal.clone(),
                body_sha256: request.body_sha256,
                status: kept.0,
                body: kept.1.clone(),
                at: now,
            });
            if events.is_empty() && answer.is_none() {
                return Ok((kept, Some(done())));
            }
            match self.0.store.append(position, &events, answer.as_ref()).await {
                Ok(appended) => {
                    self.take_in(&appended)?;
                    self.silence_revoked(&decision).await;
                    return Ok((kept, Some(done())));
                }
                Err(AppendError::Moved { .. } | AppendError::Answered) => {}
                Err(AppendError::Store(error)) => return Err(error.into()),
            }
            drop(deciding);
            tokio::time::sleep(super::pace::back_off(attempt)).await;
        }
        Err(ControlError::Contended)
    }

    /// A revoked host counts nowhere any more. If it cannot be told to the database, it does when it counts as lost.
    async fn silence_revoked(&self, decision: &Decision) {
        for fact in &decision.facts {
            if let Fact::HostRevoked { host, .. } = fact
                && let Err(error) = self.0.store.silence(host).await
            {
                warn!(code = error.code(), %host, "it counts until it is lost: {}", crate::server::chain(&error));
            }
        }
    }

    /// The answer that the request got before.
    async fn kept(&self, request: Option<&Request>) -> Result<Option<Kept>, ControlError> {
        let Some(request) = request else { return Ok(None) };
        let answer = self
            .0
            .store
            .answer(&request.principal, &request.key_sha256)
            .await?;
        match answer {
            Some(answer) if answer.body_sha256 == request.body_sha256 => {
                Ok(Some((answer.status, answer.body)))
            }
            Some(_) => Err(ControlError::KeyReused),
            None => Ok(None),
        }
    }
}

/// What is to be remembered of a decision.
pub(crate) fn new_events(decision: &Decision, actor: &Actor, at: Timestamp) -> Vec<NewEvent> {
    let of = |fact: &crate::fleet::Fact| {
        let (kind, detail) = fact.to_log();
        NewEvent {
            aggregate: fact.aggregate(),
            at,
            actor: actor.clone(),
            kind,
            detail,
        }
    };
    decision.facts.iter().map(of).collect()
}
