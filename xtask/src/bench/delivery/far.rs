//! A long way: two TUN interfaces, and a carrier between them that holds each packet for a while and loses some.
//!
//! Not `tc … netem`, which not every kernel has. What the kernels at both ends see is the same: IP packets of at most
//! 1500 bytes that come late, in order, or not at all.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tun_rs::{DeviceBuilder, SyncDevice};

use super::link::ip;

/// Longest packet, in bytes: both interfaces' MTU.
const PACKET_BYTES_MAX: u16 = 1500;
/// Most packets under way. 50 ms at 100 Mbit/s are 420; when the carrier itself falls behind, senders wait.
const UNDER_WAY_MAX: usize = 4096;

/// Joins two network namespaces by interfaces named `eth0`. The carrier ends when they are gone.
pub fn join(one: &str, other: &str, delay: Duration, lost_one_of: u64) -> anyhow::Result<()> {
    let (one, other) = (open(one, "a")?, open(other, "b")?);
    // Fixed seeds: the losses of one run are those of the next.
    carry(
        Arc::clone(&one),
        Arc::clone(&other),
        delay,
        Dice::new(1, lost_one_of),
    );
    carry(other, one, delay, Dice::new(2, lost_one_of));
    Ok(())
}

/// A TUN interface that is made here, so that we hold it, and then moved.
fn open(namespace: &str, end: &str) -> anyhow::Result<Arc<SyncDevice>> {
    let name = format!("plfm{}{end}", std::process::id());
    let device = DeviceBuilder::new()
        .name(&name)
        .mtu(PACKET_BYTES_MAX)
        .enable(false)
        .build_sync()
        .context("cannot make a TUN interface (/dev/net/tun, root)")?;
    ip(&["link", "set", &name, "netns", namespace, "name", "eth0"])?;
    Ok(Arc::new(device))
}

fn carry(from: Arc<SyncDevice>, to: Arc<SyncDevice>, delay: Duration, dice: Dice) {
    let (sender, receiver) = sync_channel(UNDER_WAY_MAX);
    thread::spawn(move || take_in(&from, &sender, delay, dice));
    thread::spawn(move || hand_out(&to, &receiver));
}

fn take_in(from: &SyncDevice, sender: &SyncSender<(Instant, Vec<u8>)>, delay: Duration, mut dice: Dice) {
    let mut packet = vec![0; usize::from(PACKET_BYTES_MAX)];
    // An error: the interface is gone with its namespace.
    while let Ok(length) = from.recv(&mut packet) {
        let due = Instant::now() + delay;
        if dice.loses() {
            continue;
        }
        let bytes = packet.get(..length).unwrap_or_default().to_vec();
        if sender.send((due, bytes)).is_err() {
            return;
        }
    }
}

fn hand_out(to: &SyncDevice, receiver: &Receiver<(Instant, Vec<u8>)>) {
    for (due, packet) in receiver {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // An interface that is down or gone takes nothing.
        let _ = to.send(&packet);
    }
}

/// Which packets are lost: independent of each other, one in so many on average (SplitMix64).
struct Dice {
    state: u64,
    lost_one_of: u64,
}

impl Dice {
    fn new(seed: u64, lost_one_of: u64) -> Self {
        Self {
            state: seed,
            lost_one_of,
        }
    }

    fn loses(&mut self) -> bool {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).is_multiple_of(self.lost_one_of)
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn one_packet_in_a_hundred_is_lost() {
        let mut dice = Dice::new(1, 100);
        let lost = (0..100_000).filter(|_| dice.loses()).count();
        assert!((900..=1100).contains(&lost), "{lost}");
    }
}
