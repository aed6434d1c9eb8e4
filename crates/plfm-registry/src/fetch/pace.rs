//! The minimum rate: a server that trickles is given up, however long it would go on.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, timeout_at};

use super::{MinimumRate, ReadFault, Settings};

/// Watches over one answer.
#[derive(Debug)]
pub(crate) struct Pace {
    rate_min: MinimumRate,
    idle: Duration,
    window_ends: Instant,
    seen: u64,
}

impl Pace {
    pub(crate) fn new(settings: &Settings) -> Self {
        let rate_min = settings.rate_min;
        Self {
            rate_min,
            idle: settings.idle_timeout,
            window_ends: Instant::now() + rate_min.window,
            seen: 0,
        }
    }

    /// The next piece of `body`; nothing at its end.
    pub(crate) async fn next<S>(&mut self, body: &mut S) -> Option<Result<Bytes, ReadFault>>
    where
        S: Stream<Item = Result<Bytes, ReadFault>> + Unpin,
    {
        let idle_ends = Instant::now() + self.idle;
        loop {
            match timeout_at(idle_ends.min(self.window_ends), body.next()).await {
                Ok(Some(Ok(piece))) => {
                    self.seen = self.seen.saturating_add(piece.len() as u64);
                    return Some(self.check_window().map(|()| piece));
                }
                Ok(other) => return other,
                Err(_) if Instant::now() >= idle_ends => return Some(Err(ReadFault::Silent(self.idle))),
                Err(_) => {
                    if let Err(fault) = self.check_window() {
                        return Some(Err(fault));
                    }
                }
            }
        }
    }

    /// Closes the window if its time is over.
    fn check_window(&mut self) -> Result<(), ReadFault> {
        if Instant::now() < self.window_ends {
            return Ok(());
        }
        let MinimumRate { bytes, window } = self.rate_min;
        if self.seen < bytes {
            return Err(ReadFault::TooSlow {
                bytes: self.seen,
                bytes_min: bytes,
                window,
            });
        }
        self.seen = 0;
        self.window_ends = Instant::now() + window;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;
    use tokio::time::sleep;

    use super::*;

    fn settings() -> Settings {
        let built_at = jiff::Timestamp::UNIX_EPOCH;
        let mut settings = Settings::new(Vec::new(), "/nowhere".into(), built_at, Arc::new(|| 0));
        settings.rate_min = MinimumRate {
            bytes: 100,
            window: Duration::from_secs(10),
        };
        settings.idle_timeout = Duration::from_secs(5);
        settings
    }

    /// A body that sends `piece` bytes every `every`, without end.
    fn trickle(piece: usize, every: Duration) -> impl Stream<Item = Result<Bytes, ReadFault>> + Unpin {
        Box::pin(stream::repeat(()).then(move |()| async move {
            sleep(every).await;
            Ok(Bytes::from(vec![0; piece]))
        }))
    }

    async fn first_fault(
        body: &mut (impl Stream<Item = Result<Bytes, ReadFault>> + Unpin),
    ) -> Option<ReadFault> {
        let mut pace = Pace::new(&settings());
        for _ in 0..1000 {
            if let Err(fault) = pace.next(body).await? {
                return Some(fault);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_after_one_window() {
        let began = Instant::now();
        let fault = first_fault(&mut trickle(1, Duration::from_secs(1))).await;
        assert!(
            matches!(fault, Some(ReadFault::TooSlow { bytes_min: 100, .. })),
            "{fault:?}"
        );
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_at_the_minimum_rate_is_read_to_any_length() {
        assert!(
            first_fault(&mut trickle(11, Duration::from_secs(1)))
                .await
                .is_none()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_is_given_up_after_the_idle_time() {
        let began = Instant::now();
        let fault = first_fault(&mut trickle(1000, Duration::from_secs(3600))).await;
        assert!(matches!(fault, Some(ReadFault::Silent(_))), "{fault:?}");
        assert_eq!(began.elapsed().as_secs(), 5);
    }
}
