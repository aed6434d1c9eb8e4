//! Customers who start instances all the while.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::host::Host;

/// From one start of an instance on a host to the next: ten boots a minute and host.
const EVERY: Duration = Duration::from_secs(6);
/// Instances that are started on a host, at most: eight minutes of them.
const LAUNCHES_MAX: usize = 80;
/// Of these, that boot or run at once: those that hang take a while.
const AT_ONCE_MAX: usize = 6;

/// Does `work` while short instances are launched on all hosts.
pub fn launching<T>(hosts: &[Host], work: impl FnOnce() -> T) -> T {
    /// Ends the launchers, however the work ends.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let is_over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for host in hosts {
            scope.spawn(move || launch(host, is_over));
        }
        let _over = Over(is_over);
        work()
    })
}

fn launch(host: &Host, is_over: &AtomicBool) {
    let alive = &AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..LAUNCHES_MAX {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            if alive.load(Ordering::Relaxed) < AT_ONCE_MAX {
                alive.fetch_add(1, Ordering::Relaxed);
                scope.spawn(move || {
                    host.run_script("exit 0");
                    alive.fetch_sub(1, Ordering::Relaxed);
                });
            }
            std::thread::sleep(EVERY);
        }
    });
}
