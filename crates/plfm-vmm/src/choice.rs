//! Which VMM runs the VMs of this host: a pure choice from facts, with its reasons.
//!
//! ```text
//! auto: Firecracker and KVM usable ─> Firecracker
//!       else QEMU there, KVM usable ─> QEMU with KVM
//!       else QEMU there ────────────> QEMU in emulation
//! ```

use std::fmt;
use std::str::FromStr;

use crate::accelerator::{Accelerator, AcceleratorChoice};
use crate::kvm::KvmFact;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VmmChoice {
    /// Firecracker where it can be used as it should be, QEMU elsewhere.
    #[default]
    Auto,
    /// Firecracker or nothing.
    Firecracker,
    /// QEMU or nothing.
    Qemu,
}

/// A VMM choice was none of `auto`, `firecracker` and `qemu`.
#[derive(Debug, thiserror::Error)]
#[error("vmm {0:?} is none of auto, firecracker, qemu")]
pub struct UnknownVmm(String);

impl FromStr for VmmChoice {
    type Err = UnknownVmm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(VmmChoice::Auto),
            "firecracker" => Ok(VmmChoice::Firecracker),
            "qemu" => Ok(VmmChoice::Qemu),
            other => Err(UnknownVmm(other.to_owned())),
        }
    }
}

impl fmt::Display for VmmChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VmmChoice::Auto => "auto",
            VmmChoice::Firecracker => "firecracker",
            VmmChoice::Qemu => "qemu",
        })
    }
}

/// What the choice goes by. An `Err` is why something can't be used, in words with what to do.
#[derive(Debug, Clone)]
pub struct VmmFacts {
    /// KVM.
    pub kvm: KvmFact,
    /// Firecracker with everything that it takes here: a supported version, its jailer, the jail's user.
    pub firecracker: Result<(), String>,
    /// QEMU with its vsock daemon.
    pub qemu: Result<(), String>,
}

/// What is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenVmm {
    /// The VMM.
    pub vmm: Vmm,
    /// Why, and why nothing better: for the log and for people.
    pub reasons: Vec<String>,
}

/// A VMM that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vmm {
    /// Firecracker, under KVM.
    Firecracker,
    /// QEMU.
    Qemu(Accelerator),
}

/// Nothing that was asked for can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// Firecracker was asked for.
    #[error("firecracker can't be used: {why}")]
    Firecracker {
        /// Why.
        why: String,
    },
    /// QEMU was asked for.
    #[error("qemu can't be used: {why}")]
    Qemu {
        /// Why.
        why: String,
    },
    /// Either would do.
    #[error("no vmm can be used; firecracker: {firecracker}; qemu: {qemu}")]
    None {
        /// Why not Firecracker.
        firecracker: String,
        /// Why not QEMU.
        qemu: String,
    },
}

impl ChoiceError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            ChoiceError::Firecracker { .. } => "firecracker_unusable",
            ChoiceError::Qemu { .. } => "qemu_unusable",
            ChoiceError::None { .. } => "no_vmm",
        }
    }
}

/// Chooses.
pub fn choose(
    vmm: VmmChoice,
    accelerator: AcceleratorChoice,
    facts: &VmmFacts,
) -> Result<ChosenVmm, ChoiceError> {
    let accelerator = resolve(accelerator, &facts.kvm);
    let firecracker = match (&facts.firecracker, accelerator.chosen) {
        (Ok(()), Accelerator::Kvm) => Ok(()),
        (Ok(()), Accelerator::Tcg) => Err(format!("it needs KVM, and {}", accelerator.reason)),
        (Err(why), _) => Err(why.clone()),
    };
    match (vmm, firecracker, &facts.qemu) {
        (VmmChoice::Auto | VmmChoice::Firecracker, Ok(()), _) => Ok(ChosenVmm {
            vmm: Vmm::Firecracker,
            reasons: vec![accelerator.reason],
        }),
        (VmmChoice::Firecracker, Err(why), _) => Err(ChoiceError::Firecracker { why }),
        (VmmChoice::Auto, Err(why), Ok(())) => Ok(ChosenVmm {
            vmm: Vmm::Qemu(accelerator.chosen),
            reasons: vec![format!("not firecracker: {why}"), accelerator.reason],
        }),
        (VmmChoice::Qemu, _, Ok(())) => Ok(ChosenVmm {
            vmm: Vmm::Qemu(accelerator.chosen),
            reasons: vec![accelerator.reason],
        }),
        (VmmChoice::Auto, Err(firecracker), Err(qemu)) => Err(ChoiceError::None {
            firecracker,
            qemu: qemu.clone(),
        }),
        (VmmChoice::Qemu, _, Err(why)) => Err(ChoiceError::Qemu { why: why.clone() }),
    }
}

struct Resolved {
    chosen: Accelerator,
    reason: String,
}

fn resolve(choice: AcceleratorChoice, kvm: &KvmFact) -> Resolved {
    let (chosen, reason) = match choice {
        AcceleratorChoice::Kvm => (Accelerator::Kvm, format!("KVM was asked for ({kvm})")),
        AcceleratorChoice::Tcg => (Accelerator::Tcg, "emulation was asked for".to_owned()),
        AcceleratorChoice::Auto if kvm.is_usable() => (Accelerator::Kvm, kvm.to_string()),
        AcceleratorChoice::Auto => (Accelerator::Tcg, kvm.to_string()),
    };
    Resolved { chosen, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Accelerator::{Kvm, Tcg};

    const THERE: Result<(), &str> = Ok(());
    const GONE: Result<(), &str> = Err("it is not installed");

    fn chosen(
        (vmm, accelerator): (VmmChoice, AcceleratorChoice),
        kvm: KvmFact,
        firecracker: Result<(), &str>,
        qemu: Result<(), &str>,
    ) -> Result<Vmm, &'static str> {
        let facts = VmmFacts {
            kvm,
            firecracker: firecracker.map_err(str::to_owned),
            qemu: qemu.map_err(str::to_owned),
        };
        choose(vmm, accelerator, &facts)
            .map(|chosen| chosen.vmm)
            .map_err(|error| error.code())
    }

    #[test]
    fn the_choice_is_this_table() {
        const AUTO: (VmmChoice, AcceleratorChoice) = (VmmChoice::Auto, AcceleratorChoice::Auto);
        const FC: (VmmChoice, AcceleratorChoice) = (VmmChoice::Firecracker, AcceleratorChoice::Auto);
        const QEMU: (VmmChoice, AcceleratorChoice) = (VmmChoice::Qemu, AcceleratorChoice::Auto);
        const AUTO_TCG: (VmmChoice, AcceleratorChoice) = (VmmChoice::Auto, AcceleratorChoice::Tcg);
        const AUTO_KVM: (VmmChoice, AcceleratorChoice) = (VmmChoice::Auto, AcceleratorChoice::Kvm);
        const FC_TCG: (VmmChoice, AcceleratorChoice) = (VmmChoice::Firecracker, AcceleratorChoice::Tcg);
        let (usable, none) = (KvmFact::Usable, KvmFact::NoVirtualization);
        let table = [
            (AUTO, usable.clone(), THERE, THERE, Ok(Vmm::Firecracker)),
            (AUTO, usable.clone(), THERE, GONE, Ok(Vmm::Firecracker)),
            (AUTO, KvmFact::Unproven, THERE, THERE, Ok(Vmm::Firecracker)),
            (AUTO, usable.clone(), GONE, THERE, Ok(Vmm::Qemu(Kvm))),
            (AUTO, none.clone(), THERE, THERE, Ok(Vmm::Qemu(Tcg))),
            (AUTO, KvmFact::Hangs, THERE, THERE, Ok(Vmm::Qemu(Tcg))),
            (AUTO, KvmFact::NotPermitted, THERE, THERE, Ok(Vmm::Qemu(Tcg))),
            (AUTO, KvmFact::NoDevice, GONE, THERE, Ok(Vmm::Qemu(Tcg))),
            (AUTO, none.clone(), THERE, GONE, Err("no_vmm")),
            (AUTO, usable.clone(), GONE, GONE, Err("no_vmm")),
            (FC, usable.clone(), THERE, THERE, Ok(Vmm::Firecracker)),
            (FC, usable.clone(), GONE, THERE, Err("firecracker_unusable")),
            (FC, none.clone(), THERE, THERE, Err("firecracker_unusable")),
            (FC_TCG, usable.clone(), THERE, THERE, Err("firecracker_unusable")),
            (QEMU, usable.clone(), THERE, THERE, Ok(Vmm::Qemu(Kvm))),
            (QEMU, none.clone(), THERE, THERE, Ok(Vmm::Qemu(Tcg))),
            (QEMU, usable.clone(), THERE, GONE, Err("qemu_unusable")),
            (AUTO_TCG, usable.clone(), THERE, THERE, Ok(Vmm::Qemu(Tcg))),
            (AUTO_KVM, none.clone(), THERE, THERE, Ok(Vmm::Firecracker)),
            (AUTO_KVM, none, GONE, THERE, Ok(Vmm::Qemu(Kvm))),
        ];
        for (asked, kvm, firecracker, qemu, expected) in table {
            let got = chosen(asked, kvm.clone(), firecracker, qemu);
            assert_eq!(
                got, expected,
                "{asked:?}, {kvm:?}, firecracker {firecracker:?}, qemu {qemu:?}"
            );
        }
    }

    #[test]
    fn a_choice_says_why_it_is_nothing_better() {
        let facts = VmmFacts {
            kvm: KvmFact::NoVirtualization,
            firecracker: Ok(()),
            qemu: Ok(()),
        };
        let chosen = choose(VmmChoice::Auto, AcceleratorChoice::Auto, &facts).unwrap();
        assert_eq!(
            chosen.reasons.first().unwrap(),
            "not firecracker: it needs KVM, and the processor has neither vmx nor svm, or hides them from this machine"
        );
    }

    #[test]
    fn a_choice_prints_as_it_parses() {
        for choice in [VmmChoice::Auto, VmmChoice::Firecracker, VmmChoice::Qemu] {
            assert_eq!(choice.to_string().parse::<VmmChoice>().unwrap(), choice);
        }
        assert!("Firecracker".parse::<VmmChoice>().is_err());
    }
}
