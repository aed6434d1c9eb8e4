//! KVM or emulation.
//!
//! `/dev/kvm` may open and still not run a stock guest: in a nested machine without `vmx` or `svm` the guest
//! hangs or dies with an internal error. So the automatic choice is KVM only where the processor has it *and* the
//! device opens for reading and writing.

use std::fmt;
use std::fs::OpenOptions;
use std::str::FromStr;

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
    /// The automatic choice, from the text of `/proc/cpuinfo` and whether `/dev/kvm` opens read-write.
    pub fn choose(cpuinfo: &str, kvm_opens: bool) -> Accelerator {
        if kvm_opens && has_virtualization(cpuinfo) {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        }
    }

    /// Resolves a choice on this host.
    pub fn resolve(choice: AcceleratorChoice) -> Accelerator {
        match choice {
            AcceleratorChoice::Kvm => Accelerator::Kvm,
            AcceleratorChoice::Tcg => Accelerator::Tcg,
            AcceleratorChoice::Auto => {
                let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
                let kvm_opens = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
                Accelerator::choose(&cpuinfo, kvm_opens)
            }
        }
    }
}

fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim() == "flags")
        .flat_map(|(_, flags)| flags.split_ascii_whitespace())
        .any(|flag| flag == "vmx" || flag == "svm")
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

    const INTEL: &str = "processor\t: 0\nmodel name\t: svm-less\nflags\t\t: fpu vme vmx sse\nbugs\t\t:\n";
    const AMD: &str = "flags\t\t: fpu svm npt\n";
    const NESTED: &str =
        "model name\t: vmx svm\nflags\t\t: fpu vme sse hypervisor svm_lock\nvmx flags\t: vnmi\n";

    #[test]
    fn kvm_needs_the_processor_and_the_device() {
        assert_eq!(Accelerator::choose(INTEL, true), Accelerator::Kvm);
        assert_eq!(Accelerator::choose(AMD, true), Accelerator::Kvm);
        assert_eq!(Accelerator::choose(INTEL, false), Accelerator::Tcg);
        assert_eq!(Accelerator::choose(NESTED, true), Accelerator::Tcg);
        assert_eq!(Accelerator::choose("", true), Accelerator::Tcg);
    }

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
