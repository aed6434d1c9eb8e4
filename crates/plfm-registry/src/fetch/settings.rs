//! What a client is told.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Mirror;

/// A source of random numbers, for jitter and the order of mirrors. Nothing secret comes of it.
pub type Random = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A server that sends less is given up: the answer to a slow retrieval attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinimumRate {
    /// How many bytes have to come …
    pub bytes: u64,
    /// … in each window of this length.
    pub window: Duration,
}

/// Where a client fetches from, where it keeps what it trusts, and how patient it is.
#[derive(Clone)]
pub struct Settings {
    /// Copies of the repository, all equal. Each update and each download begins with one of them at random.
    pub mirrors: Vec<Mirror>,
    /// The client's own directory.
    pub state_dir: PathBuf,
    /// When this program was built. A clock that is before it is wrong.
    pub built_at: Timestamp,
    /// The least that a server has to send.
    pub rate_min: MinimumRate,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a server may be silent, before its answer or within it.
    pub idle_timeout: Duration,
    /// How long the metadata of one mirror may take.
    pub update_deadline: Duration,
    /// How long one artifact may take, with all retries.
    pub artifact_deadline: Duration,
    /// How many attempts in a row may bring nothing before an artifact is given up.
    pub attempts_max: u32,
    /// The wait after the first failed attempt; it doubles with each further one.
    pub backoff_first: Duration,
    /// The longest wait between attempts.
    pub backoff_longest: Duration,
    /// How many files are downloaded at once.
    pub downloads_max: usize,
    /// For jitter and the order of mirrors.
    pub random: Random,
}

impl Settings {
    /// Settings with patience for a host on a poor line: 1 KiB/s over 30 s, an hour for an artifact.
    pub fn new(mirrors: Vec<Mirror>, state_dir: PathBuf, built_at: Timestamp, random: Random) -> Self {
        Self {
            mirrors,
            state_dir,
            built_at,
            rate_min: MinimumRate {
                bytes: 30 * 1024,
                window: Duration::from_secs(30),
            },
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(20),
            update_deadline: Duration::from_secs(120),
            artifact_deadline: Duration::from_secs(3600),
            attempts_max: 8,
            backoff_first: Duration::from_millis(200),
            backoff_longest: Duration::from_secs(30),
            downloads_max: 4,
            random,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("mirrors", &self.mirrors)
            .field("state_dir", &self.state_dir)
            .finish_non_exhaustive()
    }
}
