//! Customers who start instances all the while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::host::Host;

/// Who starts instances on one host at once.
const LAUNCHERS: usize = 3;
/// Instances that each of them starts at most.
const LAUNCHES_MAX: usize = 120;
/// What each of them waits from one to the next: a load that leaves the machine some of its time.
const PAUSE: Duration = Duration::from_millis(500);

/// Does `work` while short instances are launched on all hosts.
pub fn launching<T>(hosts: &[Host], work: impl FnOnce() -> T) -> T {
    /// Ends the launchers, however the work ends.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for host in hosts {
            for _ in 0..LAUNCHERS {
                scope.spawn(|| {
                    for _ in 0..LAUNCHES_MAX {
                        if is_over.load(Ordering::Relaxed) {
                            return;
                        }
                        host.run_script("exit 0");
                        std::thread::sleep(PAUSE);
                    }
                });
            }
        }
        let _over = Over(&is_over);
        work()
    })
}
