//! Who asks.
//!
//! Invariant: a handler that needs a role has [`Allowed`] among its arguments, and there is no other way to one.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use jiff::Timestamp;
use plfm_api::control::{Actor, HostId, Role, Whoami};

use super::{ApiError, App, Peer, RequestId};
use crate::control::{ClaimedToken, TokenKind};
use crate::fleet::HostStanding;

/// A role that a handler asks for.
pub trait Asked: Send + Sync {
    /// The role.
    const ROLE: Role;
}

/// Whoever may look.
pub struct AsViewer;
/// Whoever may change what the fleet boots.
pub struct AsOperator;
/// Whoever may make tokens and revoke hosts.
pub struct AsAdmin;

impl Asked for AsViewer {
    const ROLE: Role = Role::Viewer;
}
impl Asked for AsOperator {
    const ROLE: Role = Role::Operator;
}
impl Asked for AsAdmin {
    const ROLE: Role = Role::Admin;
}

/// An operator who may what the handler does.
pub struct Allowed<R> {
    /// Who it is.
    pub whoami: Whoami,
    /// The same, for the log.
    pub actor: Actor,
    role: PhantomData<R>,
}

/// A host, by the certificate of its connection.
pub struct HostCaller {
    /// Which one.
    pub host: HostId,
    /// The same, for the log.
    pub actor: Actor,
}

/// Who asked, for the access log. Set while a request is answered.
#[derive(Debug, Clone, Default)]
pub struct Principal(pub Arc<std::sync::OnceLock<String>>);

fn note_principal(parts: &Parts, kind: &str, id: &str) {
    if let Some(principal) = parts.extensions.get::<Principal>() {
        let _ = principal.0.set(format!("{kind}/{id}"));
    }
}

fn context(parts: &Parts) -> Result<(Arc<Peer>, String), ApiError> {
    let peer = parts.extensions.get::<Arc<Peer>>().cloned();
    let id = parts.extensions.get::<RequestId>().map(|id| id.0.clone());
    // Both are put there before any handler is asked.
    let missing = || ApiError::unavailable("internal", "the request came without its connection");
    Ok((peer.ok_or_else(missing)?, id.ok_or_else(missing)?))
}

/// The address that a peer's failures are counted under.
pub fn address(parts: &Parts) -> Result<IpAddr, ApiError> {
    Ok(context(parts)?.0.address.ip().to_canonical())
}

impl<R: Asked> FromRequestParts<App> for Allowed<R> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let (peer, request_id) = context(parts)?;
        let from = peer.address.ip().to_canonical();
        let whoami = authenticate(parts, app, Timestamp::now()).map_err(|error| app.failed(from, error))?;
        note_principal(parts, "operator", &whoami.id);
        if whoami.role < R::ROLE {
            let detail = format!(
                "this needs the role {}, and the token of {} has the role {}",
                R::ROLE.as_str(),
                whoami.name,
                whoami.role.as_str()
            );
            return Err(ApiError::forbidden("role_too_low", detail)
                .hint("have an admin make a token with that role: `plfm admin tokens create`"));
        }
        let actor = Actor {
            kind: "operator".to_owned(),
            id: whoami.id.clone(),
            name: whoami.name.clone(),
            address: Some(from.to_string()),
            request_id: Some(request_id),
        };
        Ok(Self {
            whoami,
            actor,
            role: PhantomData,
        })
    }
}

/// One answer for a token that is unknown, and one whose secret is wrong: who guesses learns nothing.
fn unknown_token() -> ApiError {
    ApiError::unauthorized("token_invalid", "the token is not known, or its secret is wrong")
        .hint("have an admin make a new one: `plfm admin tokens create`")
}

fn authenticate(parts: &Parts, app: &App, now: Timestamp) -> Result<Whoami, ApiError> {
    let header = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| {
        ApiError::unauthorized("token_missing", "this needs a bearer token")
            .hint("send `Authorization: Bearer plfm_op_…`")
    })?;
    let text = header.to_str().map_err(|_| unknown_token())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(unknown_token)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unknown_token());
    }
    let claimed = ClaimedToken::parse(TokenKind::Operator, token.trim()).ok_or_else(unknown_token)?;
    let fleet = app.control.fleet();
    let record = fleet.tokens().get(&claimed.id);
    // An id that nobody has takes as long as one whose secret is wrong.
    let nobodys = plfm_release::Sha256Digest::of(b"");
    let is_right = claimed.has_secret(record.map_or(&nobodys, |record| &record.secret_sha256));
    let record = record.filter(|_| is_right).ok_or_else(unknown_token)?;
    let hint = "have an admin make a new one: `plfm admin tokens create`";
    if record.revoked {
        return Err(ApiError::unauthorized("token_revoked", "the token was revoked").hint(hint));
    }
    if now >= record.expires_at {
        let detail = format!("the token ended at {}", record.expires_at);
        return Err(ApiError::unauthorized("token_expired", detail).hint(hint));
    }
    Ok(Whoami {
        id: claimed.id,
        name: record.name.clone(),
        role: record.role,
        expires_at: record.expires_at,
    })
}

impl FromRequestParts<App> for HostCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let (peer, request_id) = context(parts)?;
        let from = peer.address.ip().to_canonical();
        let host = certified(&peer, Timestamp::now()).map_err(|error| app.failed(from, error))?;
        note_principal(parts, "host", host.as_str());
        let name = standing(app, &host)?;
        Ok(Self {
            actor: Actor {
                kind: "host".to_owned(),
                id: host.to_string(),
                name,
                address: Some(from.to_string()),
                request_id: Some(request_id),
            },
            host,
        })
    }
}

impl HostCaller {
    /// A host speaks for itself only.
    pub fn check_is(&self, named: &HostId) -> Result<(), ApiError> {
        if self.host == *named {
            return Ok(());
        }
        let detail = format!("the certificate is that of host {}, not of {named}", self.host);
        Err(ApiError::forbidden("other_host", detail))
    }
}

fn certified(peer: &Peer, now: Timestamp) -> Result<HostId, ApiError> {
    let enrol = "let the host enrol anew: `plfm admin hosts enroll-token`";
    match &peer.certificate {
        None => Err(ApiError::unauthorized(
            "certificate_missing",
            "this needs a host's client certificate",
        )),
        Some(Err(error)) => Err(ApiError::unauthorized(
            "certificate_not_a_host",
            error.to_string(),
        )),
        Some(Ok(certificate)) if certificate.is_valid_at(now) => Ok(certificate.host.clone()),
        Some(Ok(certificate)) if now < certificate.not_before => {
            let detail = format!("the certificate is valid from {} on", certificate.not_before);
            Err(ApiError::unauthorized("certificate_not_yet_valid", detail).hint("check the clocks"))
        }
        Some(Ok(certificate)) => {
            let detail = format!("the certificate ended at {}", certificate.not_after);
            Err(ApiError::unauthorized("certificate_expired", detail).hint(enrol))
        }
    }
}

/// The host's name, if it may speak.
pub fn standing(app: &App, host: &HostId) -> Result<String, ApiError> {
    let fleet = app.control.fleet();
    let record = fleet.hosts().get(host).ok_or_else(|| {
        ApiError::unauthorized("host_unknown", format!("there is no host {host} in this fleet"))
            .hint("let the host enrol: `plfm admin hosts enroll-token`")
    })?;
    match record.standing {
        HostStanding::Enrolled | HostStanding::Draining => Ok(record.name.clone()),
        HostStanding::Revoked => {
            let detail = format!("host {host} ({}) was revoked", record.name);
            Err(ApiError::forbidden("host_revoked", detail)
                .hint("to take it back, let it enrol anew: `plfm admin hosts enroll-token`"))
        }
    }
}
