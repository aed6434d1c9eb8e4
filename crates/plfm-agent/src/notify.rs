//! Telling systemd how the agent is (`sd_notify(3)`), where it asks for it.

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
    /// Whoever started this program says where, in `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        Self::new(
            variable("NOTIFY_SOCKET").as_deref(),
            variable("WATCHDOG_USEC").as_deref(),
        )
    }

    fn new(socket: Option<&str>, watchdog_us: Option<&str>) -> Self {
        let to = socket.and_then(|name| {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(name).ok()?,
            };
            Some(Arc::new((UnixDatagram::unbound().ok()?, address)))
        });
        let watchdog_us = watchdog_us.and_then(|text| text.parse().ok());
        Self {
            to,
            watchdog: watchdog_us.filter(|us| *us > 0).map(Duration::from_micros),
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
        self.tell("READY=1\nSTATUS=takes requests");
    }

    /// The end has begun: instances are stopped, each in its own time.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping its instances");
    }

    /// Says now and then that work gets done: by the runtime's own threads and by those that may block, where a disk that
    /// stands still would hold them all.
    pub async fn keep_alive(self) {
        let Some(watchdog) = self.watchdog else { return };
        loop {
            if tokio::task::spawn_blocking(|| ()).await.is_ok() {
                self.tell("WATCHDOG=1");
            }
            tokio::time::sleep(watchdog / 3).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_is_told_that_it_is_ready_and_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = tokio::net::UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.to_str(), Some("30000"));
        let heard = async || {
            let mut buffer = [0; 256];
            let length = systemd.recv(&mut buffer).await.unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        notifier.ready();
        assert!(heard().await.starts_with("READY=1\n"));
        let alive = tokio::spawn(notifier.clone().keep_alive());
        for _ in 0..3 {
            assert_eq!(heard().await, "WATCHDOG=1");
        }
        alive.abort();
        notifier.stopping();
        loop {
            let word = heard().await;
            if word != "WATCHDOG=1" {
                assert!(word.starts_with("STOPPING=1"), "{word}");
                return;
            }
        }
    }

    #[tokio::test]
    async fn nobody_is_told_where_nobody_asks() {
        let notifier = Notifier::new(None, None);
        notifier.ready();
        notifier.keep_alive().await;
    }
}
