//! KVM or emulation. What is known of KVM: [`crate::kvm`].

use std::fmt;
use std::str::FromStr;

use crate::kvm::KvmFact;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, through `/dev/kvm`.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcceleratorChoice {
    /// KVM where it is really usable, emulation elsewhere.
    #[default]
    Auto,
    /// KVM, whatever this host looks like.
    Kvm,
    /// Emulation.
    Tcg,
}

impl Accelerator {
    /// Resolves a choice on this host, without trying KVM: see [`KvmFact::detect`].
    pub fn resolve(choice: AcceleratorChoice) -> Accelerator {
        match choice {
            AcceleratorChoice::Kvm => Accelerator::Kvm,
            AcceleratorChoice::Tcg => Accelerator::Tcg,
            AcceleratorChoice::Auto if KvmFact::detect(None).is_usable() => Accelerator::Kvm,
            AcceleratorChoice::Auto => Accelerator::Tcg,
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        })
    }
}

/// An accelerator choice was none of `auto`, `kvm` and `tcg`.
#[derive(Debug, thiserror::Error)]
#[error("accelerator {0:?} is none of auto, kvm, tcg")]
pub struct UnknownAccelerator(String);

impl FromStr for AcceleratorChoice {
    type Err = UnknownAccelerator;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(AcceleratorChoice::Auto),
            "kvm" => Ok(AcceleratorChoice::Kvm),
            "tcg" => Ok(AcceleratorChoice::Tcg),
            other => Err(UnknownAccelerator(other.to_owned())),
        }
    }
}

impl fmt::Display for AcceleratorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AcceleratorChoice::Auto => "auto",
            AcceleratorChoice::Kvm => "kvm",
            AcceleratorChoice::Tcg => "tcg",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_prints_as_it_parses() {
        for choice in [
            AcceleratorChoice::Auto,
            AcceleratorChoice::Kvm,
            AcceleratorChoice::Tcg,
        ] {
            assert_eq!(choice.to_string().parse::<AcceleratorChoice>().unwrap(), choice);
        }
        assert!("KVM".parse::<AcceleratorChoice>().is_err());
    }

    #[test]
    fn what_is_asked_for_by_name_is_taken() {
        assert_eq!(Accelerator::resolve(AcceleratorChoice::Kvm), Accelerator::Kvm);
        assert_eq!(Accelerator::resolve(AcceleratorChoice::Tcg), Accelerator::Tcg);
    }
}
