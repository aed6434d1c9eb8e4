//! Guest inits that fail on purpose, and where they may go.
//!
//! Invariant: what is decided here is decided by the program's bytes, not by how it came here: a faulty guest init holds a
//! mark, and a release with that mark is for [`FAULT_CHANNEL`] alone ([`check_fault`], called by `assemble`).

use std::fmt;
use std::str::FromStr;

use plfm_release::Channel;

/// The one channel for releases with a faulty guest init. No host takes its releases unless it is told to.
pub const FAULT_CHANNEL: &str = "lab";

/// How a faulty guest init says what it is: this, the fault's name, a semicolon.
const MARK: &[u8] = b"plfm-faulty-guest-init:";
/// Longest name of a fault that is looked for, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// What a guest init is built to do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It hangs before it says hello.
    Hang,
    /// It ends, which is a kernel panic.
    KernelPanic,
    /// It sets up no network, so the boot fails.
    Network,
    /// Its boots are good and take some seconds longer.
    Slow,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hang, Self::KernelPanic, Self::Network, Self::Slow];

    /// Its name on the command line, in the mark and in the provenance.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::KernelPanic => "kernel-panic",
            Self::Network => "network",
            Self::Slow => "slow",
        }
    }

    /// The feature of guest init's package that has it.
    pub(crate) fn feature(self) -> String {
        format!("fault-{self}")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|fault| fault.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a fault; there are {names}"))
    }
}

/// The name of the fault that a program was built to have, if it was: one that this version knows, or another.
pub fn fault_in(program: &[u8]) -> Option<String> {
    let at = program.windows(MARK.len()).position(|window| window == MARK)?;
    let name = program.get(at + MARK.len()..)?.iter().take(NAME_BYTES_MAX);
    let name: String = name
        .take_while(|byte| byte.is_ascii_lowercase() || **byte == b'-')
        .map(|byte| char::from(*byte))
        .collect();
    Some(name)
}

/// Why there is no release with a faulty guest init.
#[derive(Debug, thiserror::Error)]
#[error("guest init is built to fail ({fault}), and a release for {channel} must not have that")]
pub struct FaultRefused {
    /// How it fails.
    pub fault: String,
    /// What the release is for.
    pub channel: Channel,
}

impl FaultRefused {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        "guest_init_faulty"
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(format!(
            "build guest init without a fault, or the release with --channel {FAULT_CHANNEL}"
        ))
    }
}

/// Refuses a fault in a release for any channel but [`FAULT_CHANNEL`].
///
/// # Errors
/// [`FaultRefused`].
pub fn check_fault(fault: &str, channel: &Channel) -> Result<(), FaultRefused> {
    if channel.to_string() == FAULT_CHANNEL {
        return Ok(());
    }
    Err(FaultRefused {
        fault: fault.to_owned(),
        channel: channel.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_known_by_its_mark_wherever_that_is() {
        for fault in Fault::ALL {
            let mut program = vec![0; 1000];
            program.extend(format!("plfm-faulty-guest-init:{fault};more").into_bytes());
            program.resize(3000, 1);
            assert_eq!(fault_in(&program).as_deref(), Some(fault.as_str()));
            assert_eq!(fault.as_str().parse(), Ok(fault));
        }
        assert_eq!(
            fault_in(b"plfm-faulty-guest-init:later;").as_deref(),
            Some("later")
        );
        assert_eq!(fault_in(b"plfm-faulty-guest-init:").as_deref(), Some(""));
        assert_eq!(fault_in(b"plfm-faulty-guest-init"), None);
    }
}
