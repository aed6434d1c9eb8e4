//! Tokens made, listed and taken back.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use jiff::Timestamp;
use plfm_api::control::{
    Actor, CreateEnrollmentToken, CreateToken, CreatedEnrollmentToken, CreatedToken, EnrollmentToken,
    EventPage, Page, Receipt, Token,
};
use serde::{Deserialize, Serialize};

use super::{Control, ControlError, Kept, Request, TokenKind};
use crate::fleet::{Command, EnrollmentTokenRecord, Fact, TokenRecord};

/// Status of an answer that something was done.
const OK: u16 = 200;

/// What is kept of an answer with a token in it: all but the token.
#[derive(Serialize, Deserialize)]
struct KeptToken {
    id: String,
    expires_at: Timestamp,
}

impl Control {
    /// Carries a change out, and gives a receipt.
    pub async fn change(
        &self,
        command: &Command,
        actor: &Actor,
        request: &Request,
    ) -> Result<Kept, ControlError> {
        let request_id = actor.request_id.clone().unwrap_or_default();
        self.answer(command, actor, request, |done| {
            let receipt: Receipt = done.decision.receipt(done.before, done.event, request_id.clone());
            Ok((OK, serde_json::to_vec(&receipt)?))
        })
        .await
    }

    /// Makes an operator's token. The same request gets the same token.
    pub async fn create_token(
        &self,
        actor: &Actor,
        request: &Request,
        asked: CreateToken,
    ) -> Result<CreatedToken, ControlError> {
        let id = ulid::Ulid::generate().to_string();
        let made = self.made(TokenKind::Operator, &id, request);
        let command = Command::CreateToken {
            id,
            name: asked.name.clone(),
            role: asked.role,
            secret_sha256: made.secret_sha256,
            created_by: actor.name.clone(),
            valid_seconds: asked.valid_seconds,
        };
        let kept = self.keep_token(&command, actor, request).await?;
        Ok(CreatedToken {
            token: self.made(TokenKind::Operator, &kept.id, request).text,
            id: kept.id,
            name: asked.name,
            role: asked.role,
            expires_at: kept.expires_at,
        })
    }

    /// Makes a token for a host. The same request gets the same token.
    pub async fn create_enrollment_token(
        &self,
        actor: &Actor,
        request: &Request,
        asked: CreateEnrollmentToken,
    ) -> Result<CreatedEnrollmentToken, ControlError> {
        let id = ulid::Ulid::generate().to_string();
        let made = self.made(TokenKind::Enrollment, &id, request);
        let command = Command::CreateEnrollmentToken {
            id,
            host_name: asked.host_name,
            secret_sha256: made.secret_sha256,
            created_by: actor.name.clone(),
            valid_seconds: asked.valid_seconds,
        };
        let kept = self.keep_token(&command, actor, request).await?;
        Ok(CreatedEnrollmentToken {
            token: self.made(TokenKind::Enrollment, &kept.id, request).text,
            id: kept.id,
            expires_at: kept.expires_at,
        })
    }

    fn made(&self, kind: TokenKind, id: &str, request: &Request) -> super::MadeToken {
        self.0
            .secret_key
            .token(kind, id, &request.principal, &request.key_sha256)
    }

    async fn keep_token(
        &self,
        command: &Command,
        actor: &Actor,
        request: &Request,
    ) -> Result<KeptToken, ControlError> {
        let answered = self.answer(command, actor, request, |done| {
            let token = done.decision.facts.iter().find_map(token_of);
            Ok((OK, serde_json::to_vec(&token)?))
        });
        let (_, body) = answered.await?;
        serde_json::from_slice(&body).map_err(ControlError::KeptAnswer)
    }

    /// Operators' tokens after one of them.
    pub fn tokens(&self, after: Option<&str>, limit: usize) -> Page<Token> {
        let now = Timestamp::now();
        page(self.fleet().tokens(), after, limit, |id, record: &TokenRecord| {
            Token {
                id: id.to_owned(),
                name: record.name.clone(),
                role: record.role,
                state: record.state(now),
                created_by: record.created_by.clone(),
                created_at: record.created_at,
                expires_at: record.expires_at,
            }
        })
    }

    /// Hosts' tokens after one of them.
    pub fn enrollment_tokens(&self, after: Option<&str>, limit: usize) -> Page<EnrollmentToken> {
        let now = Timestamp::now();
        let fleet = self.fleet();
        page(
            fleet.enrollment_tokens(),
            after,
            limit,
            |id, record: &EnrollmentTokenRecord| EnrollmentToken {
                id: id.to_owned(),
                state: record.state(now),
                host_name: record.host_name.clone(),
                created_by: record.created_by.clone(),
                created_at: record.created_at,
                expires_at: record.expires_at,
                host: record.used.as_ref().map(|(host, _)| host.clone()),
            },
        )
    }

    /// Some of the log. Waits for an event if there is none.
    pub async fn events(
        &self,
        after: u64,
        limit: usize,
        aggregate: Option<&str>,
        wait: std::time::Duration,
    ) -> Result<EventPage, ControlError> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            // Before the events are read: what comes after is seen by the wait.
            let position = self.fleet().position();
            // One more than asked for tells that there is more.
            let mut items = self.0.store.events(after, limit + 1, aggregate).await?;
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if items.is_empty() && !left.is_zero() && !self.0.ending.is_cancelled() {
                self.position_after(position.max(after), left).await;
                if self.fleet().position() > position.max(after) {
                    continue;
                }
            }
            let more = items.len() > limit;
            items.truncate(limit);
            let next_after = match items.last() {
                Some(last) if more || aggregate.is_none() => last.position,
                Some(last) => last.position.max(position),
                None => after.max(position),
            };
            return Ok(EventPage {
                items,
                next_after,
                more,
            });
        }
    }
}

fn token_of(fact: &Fact) -> Option<KeptToken> {
    match fact {
        Fact::TokenCreated { id, expires_at, .. } | Fact::EnrollmentTokenCreated { id, expires_at, .. } => {
            Some(KeptToken {
                id: id.clone(),
                expires_at: *expires_at,
            })
        }
        _ => None,
    }
}

/// Items after one of them, in the order of their ids.
fn page<R, T>(
    records: &BTreeMap<String, R>,
    after: Option<&str>,
    limit: usize,
    show: impl Fn(&str, &R) -> T,
) -> Page<T> {
    let begin = after.map_or(Unbounded, Excluded);
    let mut rest = records.range::<str, _>((begin, Unbounded));
    let taken: Vec<(&String, &R)> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    Page {
        next_cursor: taken.last().filter(|_| more).map(|(id, _)| (*id).clone()),
        items: taken.into_iter().map(|(id, record)| show(id, record)).collect(),
    }
}
