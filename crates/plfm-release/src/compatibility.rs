//! Which agent may run which guest init: the spec's section "Compatibility Matrix".

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Version of the protocol between guest init and agent (`guest_init_protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Protocol(pub u32);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a release asks of the agent that would run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compatibility {
    /// Oldest agent that can run the release.
    pub min_agent_version: semver::Version,
    /// Protocols that the guest init in the release speaks.
    pub supported_protocols: BTreeSet<Protocol>,
}

/// Why an agent must not run a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// The agent is older than the release allows.
    #[error("the release needs agent {needed} or later; this agent is {agent}")]
    AgentTooOld {
        /// `min_agent_version` of the release.
        needed: semver::Version,
        /// The version of the agent.
        agent: semver::Version,
    },
    /// Release and agent have no protocol in common.
    #[error("the release speaks guest init protocol {release}; this agent speaks {agent}")]
    NoCommonProtocol {
        /// What the release speaks, separated by commas.
        release: String,
        /// What the agent speaks, separated by commas.
        agent: String,
    },
}

impl Incompatible {
    /// The stable code of the refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AgentTooOld { .. } => "agent_too_old",
            Self::NoCommonProtocol { .. } => "guest_init_protocol_mismatch",
        }
    }
}

impl Compatibility {
    /// The newest protocol that both sides speak.
    ///
    /// # Errors
    /// [`Incompatible`] when the agent is too old or no protocol is common: the agent MUST NOT run the release.
    pub fn check(
        &self,
        agent_version: &semver::Version,
        agent_protocols: &[Protocol],
    ) -> Result<Protocol, Incompatible> {
        // Build metadata has no precedence (semantic versioning 2.0.0, 10), so `Ord`, which gives it one, won't do.
        if agent_version.cmp_precedence(&self.min_agent_version).is_lt() {
            return Err(Incompatible::AgentTooOld {
                needed: self.min_agent_version.clone(),
                agent: agent_version.clone(),
            });
        }
        let common = agent_protocols
            .iter()
            .filter(|protocol| self.supported_protocols.contains(protocol))
            .max();
        common.copied().ok_or_else(|| Incompatible::NoCommonProtocol {
            release: list(self.supported_protocols.iter()),
            agent: list(agent_protocols.iter()),
        })
    }
}

fn list<'a>(protocols: impl Iterator<Item = &'a Protocol>) -> String {
    protocols.map(Protocol::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(min: &str, protocols: &[u32]) -> Compatibility {
        Compatibility {
            min_agent_version: min.parse().unwrap(),
            supported_protocols: protocols.iter().copied().map(Protocol).collect(),
        }
    }

    fn check(release: &Compatibility, agent: &str, protocols: &[u32]) -> Result<u32, &'static str> {
        let protocols: Vec<_> = protocols.iter().copied().map(Protocol).collect();
        release
            .check(&agent.parse().unwrap(), &protocols)
            .map(|p| p.0)
            .map_err(|e| e.code())
    }

    #[test]
    fn the_newest_common_protocol_is_chosen() {
        assert_eq!(check(&release("1.0.0", &[1, 2, 3]), "1.4.0", &[1, 2]), Ok(2));
    }

    #[test]
    fn an_older_agent_is_refused_and_an_equal_one_is_not() {
        assert_eq!(
            check(&release("1.2.0", &[1]), "1.1.9", &[1]),
            Err("agent_too_old")
        );
        assert_eq!(
            check(&release("1.2.0", &[1]), "1.2.0-rc.1", &[1]),
            Err("agent_too_old")
        );
        assert_eq!(check(&release("1.2.0", &[1]), "1.2.0", &[1]), Ok(1));
    }

    #[test]
    fn build_metadata_makes_no_agent_older() {
        assert_eq!(check(&release("1.2.0+b", &[1]), "1.2.0+a", &[1]), Ok(1));
        assert_eq!(check(&release("1.2.0+b", &[1]), "1.2.0", &[1]), Ok(1));
    }

    #[test]
    fn no_common_protocol_is_refused() {
        assert_eq!(
            check(&release("1.0.0", &[2]), "1.0.0", &[1]),
            Err("guest_init_protocol_mismatch")
        );
        assert_eq!(
            check(&release("1.0.0", &[1]), "1.0.0", &[]),
            Err("guest_init_protocol_mismatch")
        );
    }
}
