//! What guest init and the agent say to each other: protocol 1.
//!
//! Two kinds of connection, both over vsock:
//!
//! ```text
//! control, port 5161   guest dials      newline-delimited JSON       guest: hello, ack, status    host: config, reject, stop, signal
//! output,  port 5163   guest dials      frames                       the workload's stdout and stderr, and its stdin
//! exec,    port 5162   agent dials      frames                       one session a connection
//! ```
//!
//! Invariants: no I/O, no clock; any bytes give messages or a typed error, never a panic; every buffer is
//! bounded. Unknown optional members are ignored by both ends; a config that *requires* something unknown says so
//! in `required_features` and is refused.

mod cmdline;
mod config;
mod exec;
mod frame;
mod guest;
mod host;
mod line;
mod message;
mod secrets;
mod sensitive;
mod signal;
mod stage;

pub use cmdline::{Cmdline, CmdlineError};
pub use config::{
    CONFIG_VERSION, Config, ConfigError, ExecService, FEATURES, MountMode, Network, OutputStream, Rlimit,
    Secrets, VolumeMount, Workload, is_reserved_mountpoint,
};
pub use exec::{EXEC_SESSION_SECONDS_MAX, EXEC_SESSIONS_MAX, ExecControl, ExecExit, ExecStart};
pub use frame::{FRAME_BYTES_MAX, Frame, FrameDecoder, FrameError, FrameType, encode_frame};
pub use guest::{GuestEvent, GuestSession};
pub use host::{HostEvent, HostSession};
pub use line::{LINE_BYTES_MAX, LineDecoder, LineError};
pub use message::check::DETAIL_BYTES_MAX;
pub use message::{
    Exit, Failure, GuestMessage, Hello, HostMessage, MemoryUse, ProtocolError, StageTiming, Status,
    StatusState,
};
pub use secrets::{SECRETS_BYTES_MAX, SecretsError, SecretsFile};
pub use sensitive::Sensitive;
pub use signal::signal_number;
pub use stage::{Reason, Stage};

/// The protocol that this crate speaks (`guest_init_protocol`).
pub const PROTOCOL: u32 = 1;
/// The vsock port on the host that guest init dials for the handshake.
pub const CONTROL_PORT: u32 = 5161;
/// The vsock port in the guest that the agent dials for exec sessions.
pub const EXEC_PORT: u32 = 5162;
/// The vsock port on the host that guest init dials to stream the workload's output.
pub const OUTPUT_PORT: u32 = 5163;
/// How long the whole handshake may take, in milliseconds, from the first connect to the ack.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;
