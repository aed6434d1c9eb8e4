//! Telling systemd how it goes (`sd_notify(3)`), where it asks for it.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

/// Who is told, if anybody.
#[derive(Clone)]
pub struct Notifier {
    to: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Whoever started this program says so in `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub fn from_environment() -> Self {
        let to = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(&name).ok()?,
            };
            Some(Arc::new((UnixDatagram::unbound().ok()?, address)))
        });
        let microseconds = std::env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|text| text.parse().ok());
        Self {
            to,
            watchdog: microseconds.map(Duration::from_micros),
        }
    }

    fn tell(&self, what: &str) {
        if let Some(to) = &self.to
            && let Err(error) = to.0.send_to_addr(what.as_bytes(), &to.1)
        {
            debug!("systemd cannot be told {what}: {error}");
        }
    }

    /// Requests are answered.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says now and then that requests can be answered.
    pub async fn keep_alive(self) {
        let Some(watchdog) = self.watchdog else { return };
        loop {
            // A database that is away is no reason to be restarted; a runtime that stands still is, and then this does too.
            self.tell("WATCHDOG=1");
            tokio::time::sleep(watchdog / 2).await;
        }
    }
}
