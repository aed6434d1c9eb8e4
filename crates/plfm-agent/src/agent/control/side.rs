//! The host as the link sees it.

use jiff::Timestamp;
use plfm_api::control::{Generation, HostStatus, Target};
use plfm_release::ReleaseId;
use tokio::task::spawn_blocking;

use super::link::{Side, Told};
use super::transport::{Standing, TransportError};
use crate::agent::{Agent, random};

/// The agent's side of the conversation.
pub struct HostSide {
    agent: Agent,
}

impl HostSide {
    pub fn new(agent: Agent) -> Self {
        Self { agent }
    }
}

impl Side for HostSide {
    async fn status(&self) -> Option<HostStatus> {
        let agent = self.agent.clone();
        spawn_blocking(move || {
            agent.look_what_is_missing();
            agent.host_status()
        })
        .await
        .ok()
    }

    fn wants(&self) -> Vec<ReleaseId> {
        let now = Timestamp::now();
        self.agent
            .control()
            .map(|control| control.wants(now))
            .unwrap_or_default()
    }

    fn generation(&self) -> Generation {
        self.agent
            .control()
            .map(|control| control.glance().0)
            .unwrap_or_default()
    }

    fn is_watched(&self) -> bool {
        self.agent.control().is_some_and(|control| control.is_watched())
    }

    async fn apply(&self, target: Target) -> bool {
        let agent = self.agent.clone();
        let applied = spawn_blocking(move || agent.apply_target(target)).await;
        applied.unwrap_or(false)
    }

    async fn told(&self, Told { drain, may_fetch }: Told) {
        let agent = self.agent.clone();
        // Only at the agent's end it is not done.
        let _ = spawn_blocking(move || {
            if let Some(control) = agent.control() {
                control.set_draining(drain);
                control.grant(may_fetch);
            }
        })
        .await;
    }

    fn contact(&self, result: Result<(), &TransportError>) {
        let Some(control) = self.agent.control() else {
            return;
        };
        match result {
            Ok(()) => {
                let mut state = control.state();
                if !state.connected {
                    tracing::info!("the control plane answers");
                }
                state.connected = true;
                state.last_contact = Some(Timestamp::now());
                // What is wrong with a target stays until a target is right.
                if state
                    .problem
                    .as_ref()
                    .is_some_and(|problem| !problem.code.starts_with("generation_"))
                {
                    state.problem = None;
                }
            }
            Err(error) => {
                let hint = match error.standing() {
                    Standing::Same | Standing::Expired => error.hint().map(str::to_owned),
                    Standing::Rejected => Some(control.anew_hint()),
                };
                control.note_problem(error.code(), error.to_string(), hint);
            }
        }
    }

    fn random(&self) -> u64 {
        random()
    }
}
