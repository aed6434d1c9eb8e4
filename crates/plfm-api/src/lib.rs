//! JSON of the HTTP endpoints, and the error body they share.
//!
//! So far the agent's local socket:
//!
//! | | | |
//! |---|---|---|
//! | `GET /v1/host` | | [`Host`] |
//! | `GET /v1/control` | | [`ControlLink`] |
//! | `GET /v1/releases` | | [`Items`] of [`Release`] |
//! | `POST /v1/releases` | [`InstallRelease`] | [`Release`] |
//! | `POST /v1/releases/current` | [`SetCurrentRelease`] | [`Release`] |
//! | `GET /v1/images` | | [`Items`] of [`Image`] |
//! | `GET /v1/images/show` | `?image=` a name, a digest or its beginning | [`Image`] |
//! | `POST /v1/images/pull` | [`PullImage`] | lines of [`PullEvent`] |
//! | `POST /v1/images/gc` | | [`CollectedImages`] |
//! | `GET /v1/instances` | | [`Items`] of [`Instance`] |
//! | `POST /v1/instances` | [`CreateInstance`] | [`Instance`] |
//! | `GET /v1/instances/{id}` | `?wait=ready` or `stopped`, `timeout_seconds` | [`Instance`] |
//! | `DELETE /v1/instances/{id}` | | nothing |
//! | `POST /v1/instances/{id}/stop` | [`StopInstance`] | [`Instance`] |
//! | `POST /v1/instances/{id}/signal` | [`SignalInstance`] | [`Instance`] |
//! | `GET /v1/instances/{id}/output` | `?follow=true` | frames of the guest protocol |
//! | `GET /v1/instances/{id}/console` | | text |
//! | `POST /v1/instances/{id}/exec` | upgrade to `plfm-exec` | frames of the guest protocol, both ways |
//!
//! The control plane's are in [`control`].
//!
//! Invariant: no I/O and no clock. Types that carry secrets or environment values have no `Debug`.

pub mod control;
mod exposition;
mod host;
mod image;
mod instance;
mod problem;
mod release;
mod report;

pub use exposition::{PROMETHEUS_CONTENT_TYPE, prometheus_text};
pub use host::{ControlLink, ControlProblem, Host, Items};
pub use image::{
    CollectedImages, Image, ImageDigest, ImageProgram, InstanceImage, PullEvent, PullImage, PullPolicy,
    PullProgress, PullStep, PulledImage,
};
pub use instance::{
    CreateInstance, Instance, InstanceExit, InstanceState, NetworkMode, Resources, Rlimit,
    SCRATCH_MIB_DEFAULT, SecretsOwner, SignalInstance, StopInstance, Volume, VolumeMode, Workload,
};
pub use problem::{PROBLEM_CONTENT_TYPE, Problem};
pub use release::{
    AvailableRelease, Collected, FetchRelease, Fetching, InstallRelease, PinRelease, Registry,
    RegistryProblem, Release, ReleaseState, SetCurrentRelease,
};
pub use report::{BootOutcome, BootReport, Counted, HostTimings, StageTiming};

/// The protocol that an exec request asks to upgrade its connection to.
pub const EXEC_UPGRADE: &str = "plfm-exec";
/// Where the agent's socket is, unless it was told otherwise.
pub const AGENT_SOCKET_DEFAULT: &str = "/run/plfm-agent/agent.sock";
