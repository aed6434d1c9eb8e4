//! How a host gets its identity.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use plfm_release::Architecture;
use serde::{Deserialize, Serialize};

use super::TokenState;

/// A host: a ULID that the control plane gives at enrolment. It is in the host's certificate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[0-9A-HJKMNP-TV-Z]{26}$"))]
#[serde(try_from = "String", into = "String")]
pub struct HostId(String);

/// Not a host's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdError {
    text: String,
}

impl fmt::Display for HostIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.text.chars().take(40).collect();
        write!(
            f,
            "{shown:?} is not a host's id, which is a ULID of 26 characters"
        )
    }
}

impl std::error::Error for HostIdError {}

impl HostId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostId {
    type Err = HostIdError;

    fn from_str(text: &str) -> Result<Self, HostIdError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'H' | b'J' | b'K' | b'M' | b'N' | b'P'..=b'T' | b'V'..=b'Z');
        if text.len() == 26 && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HostIdError {
                text: text.to_owned(),
            })
        }
    }
}

impl TryFrom<String> for HostId {
    type Error = HostIdError;

    fn try_from(text: String) -> Result<Self, HostIdError> {
        text.parse()
    }
}

impl From<HostId> for String {
    fn from(id: HostId) -> Self {
        id.0
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host that wants to belong to the fleet. Has no `Debug`: the token is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrollHost {
    /// The single-use token.
    pub token: String,
    /// What people call the host: its host name, 1 to 253 characters.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 253))]
    pub name: String,
    /// A certificate signing request (PKCS #10, PEM) with the host's public key. Whatever else it asks for is ignored.
    #[cfg_attr(feature = "openapi", schema(max_length = 8192))]
    pub csr: String,
    /// The agent's version.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub agent_version: semver::Version,
    /// The machine.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub arch: Architecture,
}

/// A certificate before the old one expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RenewCertificate {
    /// A certificate signing request (PKCS #10, PEM), with the same key or another one.
    #[cfg_attr(feature = "openapi", schema(max_length = 8192))]
    pub csr: String,
}

/// A host's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolledHost {
    /// Its id, which is in the certificate as `urn:plfm:host:<id>`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub host: HostId,
    /// The certificate and what it is issued by, PEM.
    pub certificate: String,
    /// When it ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub not_after: Timestamp,
    /// From when on another one should be asked for.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub renew_after: Timestamp,
}

/// A token for hosts to enrol with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateEnrollmentToken {
    /// How long it may be used, in seconds: 60 to 2,592,000 (30 days). An hour, unless told otherwise.
    #[cfg_attr(feature = "openapi", schema(minimum = 60, maximum = 2592000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_seconds: Option<u64>,
    /// The one host name that may use it; any, if none is given.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
}

/// An enrollment token, without what makes it work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrollmentToken {
    /// Its id.
    pub id: String,
    /// Whether it still can be used.
    pub state: TokenState,
    /// The one host name that may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When it ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// The host that used it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
}

/// A new enrollment token. Shown once. Has no `Debug`: it is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedEnrollmentToken {
    /// Its id.
    pub id: String,
    /// What the host gives. It cannot be had again.
    pub token: String,
    /// When it ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
}
