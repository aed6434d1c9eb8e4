//! JSON of the control plane's endpoints.
//!
//! | hosts: client certificate | | |
//! |---|---|---|
//! | `POST /v1/hosts/enroll` (an enrollment token instead) | [`EnrollHost`] | [`EnrolledHost`] |
//! | `POST /v1/hosts/{id}/certificate` | [`RenewCertificate`] | [`EnrolledHost`] |
//! | `POST /v1/hosts/{id}/heartbeat` | [`Heartbeat`] | [`HeartbeatAnswer`] |
//! | `GET /v1/hosts/{id}/target` | `?after=GENERATION&wait_seconds=N` | [`Target`], or 204 when there is nothing newer |
//!
//! | operators: bearer token | | | role |
//! |---|---|---|---|
//! | `GET /v1/kernels` | `?cursor`, `limit` | [`Page`] of [`Kernel`] | viewer |
//! | `GET /v1/kernels/{release}` | | [`KernelDetail`] | viewer |
//! | `POST /v1/kernels/set-default` | [`SetDefault`] | [`Receipt`] | operator |
//! | `POST /v1/kernels/rollback` | [`Rollback`] | [`Receipt`] | operator |
//! | `POST /v1/kernels/block`, `/unblock` | [`BlockRelease`], [`UnblockRelease`] | [`Receipt`] | operator |
//! | `GET /v1/fleet` | | [`Fleet`] | viewer |
//! | `GET /v1/hosts`, `/v1/hosts/{id}` | `?cursor`, `limit`, `state`, `release` | [`Page`] of [`FleetHost`], one | viewer |
//! | `POST /v1/hosts/{id}/drain`, `/undrain`, `/revoke` | [`HostChange`] | [`Receipt`] | operator, admin for revoke |
//! | `GET /v1/events` | `?after=POSITION`, `limit`, `wait_seconds`, `aggregate` | [`EventPage`] | viewer |
//! | `GET /v1/rollouts`, `/v1/rollouts/{id}` (or `current`) | `?cursor`, `limit` | [`Page`] of [`Rollout`], [`RolloutDetail`] | viewer |
//! | `POST /v1/rollouts` | [`StartRollout`] | [`Receipt`] | operator |
//! | `POST /v1/rollouts/{id}/pause`, `/resume`, `/abort`, `/promote` | [`ChangeRollout`] | [`Receipt`] | operator |
//! | `GET`, `PUT /v1/policy` | [`SetPolicy`] | [`CurrentPolicy`], [`Receipt`] | viewer, operator |
//! | `GET`, `POST /v1/tokens`, `POST /v1/tokens/{id}/revoke` | [`CreateToken`], [`RevokeToken`] | [`Page`] of [`Token`], [`CreatedToken`], [`Receipt`] | admin |
//! | `GET`, `POST /v1/enrollment-tokens`, `POST /v1/enrollment-tokens/{id}/revoke` | [`CreateEnrollmentToken`], [`RevokeToken`] | [`Page`] of [`EnrollmentToken`], [`CreatedEnrollmentToken`], [`Receipt`] | operator |
//! | `GET /v1/whoami` | | [`Whoami`] | viewer |
//!
//! Every `POST` and `PUT` of an operator needs an `Idempotency-Key` header: same key and body, same answer; another body,
//! 409. `expected_generation` makes a change conditional: 409 `generation_moved` if the fleet is elsewhere by now.

mod enrollment;
mod event;
mod fleet;
mod heartbeat;
mod kernel;
mod policy;
mod receipt;
mod rollout;
mod target;
mod token;

pub use enrollment::{
    CreateEnrollmentToken, CreatedEnrollmentToken, EnrollHost, EnrolledHost, EnrollmentToken, HostId,
    HostIdError, RenewCertificate,
};
pub use event::{Actor, Event, EventPage};
pub use fleet::{Fleet, FleetHost, HostChange, HostState};
pub use heartbeat::{
    Advertisement, BUCKETS_MAX, CurrentDefault, Heartbeat, HeartbeatAnswer, HostRelease, HostStatus,
    OUTCOMES_MAX, OutcomeCount, READY_BUCKETS, ready_bucket, ready_bucket_begin_ms,
};
pub use kernel::{
    BlockRelease, Kernel, KernelDetail, KernelHost, KernelState, Rollback, SetDefault, UnblockRelease,
};
pub use policy::{CurrentPolicy, MaintenanceWindow, Policy, SetPolicy, Weekday};
pub use receipt::{Page, Receipt};
pub use rollout::{
    BootSample, ChangeRollout, Evidence, HostSetApart, OverdueWave, PausedShare, PlanBase, Rollout,
    RolloutDetail, RolloutHealth, RolloutHosts, RolloutMoment, RolloutNotice, RolloutPlan, RolloutStage,
    RolloutWave, SlowBoots, StartRollout, WavePosition,
};
pub use target::{Canary, CanaryCohort, Generation, Target, WEIGHT_MAX};
pub use token::{CreateToken, CreatedToken, RevokeToken, Role, Token, TokenState, Whoami};

/// Header that makes a change safe to repeat.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Items of a page, unless told otherwise, and at most.
pub const PAGE_LIMIT_DEFAULT: usize = 50;
/// Items of a page, at most.
pub const PAGE_LIMIT_MAX: usize = 200;
/// How long an answer may be held back until there is news, in seconds.
pub const WAIT_SECONDS_MAX: u64 = 60;
