//! Failed authentications by source address.
//!
//! A right token or certificate is never refused for what others at its address did: secrets of 32 bytes are not guessed, so
//! this only keeps the log and the database from those who try.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of one address in [`WINDOW`] that are answered in full: an operator who tries out tokens.
const FAILURES_MAX: u32 = 30;
/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered at once, at 48 bytes each. When there are more, the oldest window is forgotten with all
/// that began with it.
const ADDRESSES_MAX: usize = 16_384;

/// The failures of late.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<IpAddr, Counted>>);

#[derive(Debug, Clone, Copy)]
struct Counted {
    since: Instant,
    failures: u32,
}

impl Failures {
    /// Counts one. Returns how long the address has to wait, if it failed too often.
    pub fn count(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if !counted.contains_key(&address) && counted.len() >= ADDRESSES_MAX {
            counted.retain(|_, one| now.duration_since(one.since) < WINDOW);
            if counted.len() >= ADDRESSES_MAX {
                counted.clear();
            }
        }
        let one = counted.entry(address).or_insert(Counted {
            since: now,
            failures: 0,
        });
        if now.duration_since(one.since) >= WINDOW {
            *one = Counted {
                since: now,
                failures: 0,
            };
        }
        one.failures = one.failures.saturating_add(1);
        wait(one, now)
    }

    /// How long the address has to wait, without counting.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wait(counted.get(&network(address))?, now)
    }
}

fn wait(counted: &Counted, now: Instant) -> Option<Duration> {
    let left = WINDOW.checked_sub(now.duration_since(counted.since))?;
    (counted.failures > FAILURES_MAX).then_some(left)
}

/// Of an IPv6 address its network: whoever has one address there has 2^64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_after_too_many_failures_until_its_window_is_over() {
        let failures = Failures::default();
        let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let start = Instant::now();
        for _ in 0..FAILURES_MAX {
            assert_eq!(failures.count(here, start), None);
        }
        assert_eq!(failures.count(here, start), Some(WINDOW));
        assert_eq!(failures.count(there, start), None);
        assert_eq!(failures.count(here, start + WINDOW), None);
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        let failures = Failures::default();
        let start = Instant::now();
        let waits = (0..=FAILURES_MAX).filter_map(|host| {
            let address = format!("2001:db8::{host:x}").parse().unwrap();
            failures.count(address, start)
        });
        assert_eq!(waits.count(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let failures = Failures::default();
        let start = Instant::now();
        for number in 0..u32::try_from(ADDRESSES_MAX).unwrap() * 2 + 7 {
            failures.count(IpAddr::from(number.to_be_bytes()), start);
        }
        assert!(failures.0.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
