//! What a client may ask of the server, each with its reason.

use std::time::Duration;

/// TLS handshakes: two round trips, and a host that is busy booting microVMs.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From a request's first byte to the end of its headers; and from the handshake to the first request.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// From the headers to the end of the body: 256 KiB at 26 KiB/s.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole request, long polls' waiting aside: whatever takes longer is better repeated.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection without a request is kept: longer than the longest time between two heartbeats by default, so that
/// a host does not pay for a handshake with each.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(150);
/// How long requests are waited for when the server ends. Long polls end at once.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Largest body of an operator's request, in bytes: texts are bounded to a few hundred characters.
pub const OPERATOR_BODY_BYTES_MAX: usize = 64 * 1024;
/// Largest policy, in bytes: a thousand pins.
pub const POLICY_BODY_BYTES_MAX: usize = 256 * 1024;
/// Largest body of a host's enrolment or renewal, in bytes: the signing request is bounded to 8 KiB.
pub const HOST_BODY_BYTES_MAX: usize = 16 * 1024;
/// Largest heartbeat, in bytes: 256 outcomes and 64 releases with their names.
pub const HEARTBEAT_BYTES_MAX: usize = 256 * 1024;
/// Largest head of a request, in bytes.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request.
pub const HEADERS_MAX: usize = 64;
/// Requests at once on one HTTP/2 connection: a long poll, a heartbeat, a renewal, and an operator's program that asks for
/// several things at once.
pub const STREAMS_MAX: u32 = 32;
/// Connections at once, unless told otherwise: each takes about 50 KiB.
pub const CONNECTIONS_MAX_DEFAULT: usize = 20_000;
/// Long polls at once, unless told otherwise. Above it a poll is answered at once, as if its time were over.
pub const POLLS_MAX_DEFAULT: usize = 20_000;
