//! Commands about tokens.

use jiff::{SignedDuration, Timestamp};
use plfm_api::control::{Role, TokenState};

use super::state::TokenRecord;
use super::{Decision, Fact, FleetState, Refusal};

/// How long a token works, in seconds, unless told otherwise; and what may be told.
const VALID_SECONDS_DEFAULT: u64 = 90 * 86_400;
const VALID_SECONDS: std::ops::RangeInclusive<u64> = 60..=31_622_400;
/// The same for enrollment tokens: they lie about in provisioning systems.
const ENROLLMENT_VALID_SECONDS_DEFAULT: u64 = 3_600;
const ENROLLMENT_VALID_SECONDS: std::ops::RangeInclusive<u64> = 60..=2_592_000;
/// Longest name of a token's owner, in characters.
const NAME_CHARS_MAX: usize = 64;

pub(super) fn token_end(seconds: Option<u64>, now: Timestamp) -> Result<Timestamp, Refusal> {
    end(seconds.unwrap_or(VALID_SECONDS_DEFAULT), VALID_SECONDS, now)
}

pub(super) fn enrollment_token_end(seconds: Option<u64>, now: Timestamp) -> Result<Timestamp, Refusal> {
    end(
        seconds.unwrap_or(ENROLLMENT_VALID_SECONDS_DEFAULT),
        ENROLLMENT_VALID_SECONDS,
        now,
    )
}

fn end(seconds: u64, allowed: std::ops::RangeInclusive<u64>, now: Timestamp) -> Result<Timestamp, Refusal> {
    let refused = || {
        let detail = format!(
            "a token cannot be valid for {seconds} s, only for {} to {}",
            allowed.start(),
            allowed.end()
        );
        Refusal::invalid("validity_invalid", detail)
    };
    let seconds = i64::try_from(seconds)
        .ok()
        .filter(|_| allowed.contains(&seconds))
        .ok_or_else(refused)?;
    now.checked_add(SignedDuration::from_secs(seconds))
        .map_err(|_| refused())
}

pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || name.trim() != name || name.chars().any(char::is_control) {
        let detail = format!(
            "{name:?} is not an owner's name: 1 to {NAME_CHARS_MAX} characters, no space at its ends, no control characters"
        );
        return Err(Refusal::invalid("token_name_invalid", detail));
    }
    Ok(())
}

impl FleetState {
    pub(super) fn revoke_token(
        &self,
        id: &str,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let token = self.tokens.get(id).ok_or_else(|| {
            Refusal::not_found("token_unknown", format!("there is no token {id:?}"))
                .hint("see `plfm admin tokens list`")
        })?;
        if token.revoked {
            return Ok(Decision::unchanged(format!("token {id} is revoked already")));
        }
        let is_admin =
            |token: &TokenRecord| token.role == Role::Admin && token.state(now) == TokenState::Active;
        let others = self
            .tokens
            .iter()
            .filter(|(other, token)| *other != id && is_admin(token));
        if is_admin(token) && others.count() == 0 {
            let detail =
                format!("token {id} is the last admin's token that works: nobody could make another one");
            return Err(Refusal::conflict("last_admin_token", detail)
                .hint("make another one first: `plfm admin tokens create NAME --role admin`"));
        }
        let fact = Fact::TokenRevoked {
            id: id.to_owned(),
            reason,
        };
        Ok(Decision::of(
            fact,
            format!("revoked token {id} of {}", token.name),
        ))
    }

    pub(super) fn revoke_enrollment_token(
        &self,
        id: &str,
        reason: Option<String>,
    ) -> Result<Decision, Refusal> {
        let token = self.enrollment_tokens.get(id).ok_or_else(|| {
            Refusal::not_found("token_unknown", format!("there is no enrollment token {id:?}"))
                .hint("see `plfm admin hosts enroll-tokens list`")
        })?;
        if token.revoked {
            return Ok(Decision::unchanged(format!(
                "enrollment token {id} is revoked already"
            )));
        }
        let fact = Fact::EnrollmentTokenRevoked {
            id: id.to_owned(),
            reason,
        };
        Ok(Decision::of(fact, format!("revoked enrollment token {id}")))
    }
}
