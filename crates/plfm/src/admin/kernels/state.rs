//! What a release is to the fleet, and how its boots go, in words.

use plfm_api::control::{Kernel, KernelState};

use crate::admin::weight::Weight;

/// The state, and why.
pub fn render_state(state: &KernelState) -> String {
    match state {
        KernelState::Default => "default".to_owned(),
        KernelState::Canary { weight } => format!("canary at {}", Weight(*weight)),
        KernelState::Previous => "previous".to_owned(),
        KernelState::Available => "available".to_owned(),
        KernelState::Blocked { reason } => format!("blocked: {reason}"),
        KernelState::RolledBack { reason } => format!("rolled back: {reason}"),
        KernelState::Withdrawn { reason } => format!("withdrawn: {reason}"),
    }
}

/// The share of boots that became ready, of how many. Never rounded up: 100% means all of them.
pub fn render_boots(kernel: &Kernel) -> String {
    let Some(per_mille) = (u128::from(kernel.boots_ready) * 1_000).checked_div(u128::from(kernel.boots))
    else {
        return String::new();
    };
    let (whole, tenth) = (per_mille / 10, per_mille % 10);
    let share = match tenth {
        0 => format!("{whole}%"),
        _ => format!("{whole}.{tenth}%"),
    };
    format!("{share} of {}", kernel.boots)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A release that nothing boots.
    pub fn kernel() -> Kernel {
        Kernel {
            release: "6.1.50-20251217a+guestinit-1.0.0-20251217a".parse().unwrap(),
            state: KernelState::Available,
            kernel: "6.1.50-20251217a".parse().unwrap(),
            initramfs: "guestinit-1.0.0-20251217a".parse().unwrap(),
            guest_init_version: "1.0.0".parse().unwrap(),
            protocol: 2,
            hosts: 1,
            hosts_active: 2,
            instances: 3,
            boots_ready: 0,
            boots: 0,
            found_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_share_of_boots_is_never_rounded_up() {
        let boots = |boots_ready, boots| {
            render_boots(&Kernel {
                boots_ready,
                boots,
                ..kernel()
            })
        };
        assert_eq!(boots(0, 0), "");
        assert_eq!(boots(0, 7), "0% of 7");
        assert_eq!(boots(7, 7), "100% of 7");
        assert_eq!(boots(9_999, 10_000), "99.9% of 10000");
        assert_eq!(boots(2, 3), "66.6% of 3");
        assert_eq!(boots(u64::MAX, u64::MAX), format!("100% of {}", u64::MAX));
    }
}
