//! Whether KVM is really usable: not only there, not only open.
//!
//! ```text
//! processor says vmx or svm ─> /dev/kvm opens ─> a tiny guest runs ─> usable
//! ```
//!
//! `/dev/kvm` may open and still not run a stock guest: in a nested machine without `vmx` or `svm` it hangs or dies of
//! an internal error, although a few instructions of real mode may well run there. So all three are needed. The tiny
//! guest is run in a process of its own, which is ended when it does not end by itself: a hang in the kernel is not
//! this process's.

mod probe;

use std::ffi::OsString;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The tiny guest needs milliseconds.
const PROBE_MAX: Duration = Duration::from_secs(2);
const PROBE_POLL: Duration = Duration::from_millis(2);
/// One line of words.
const WORDS_BYTES_MAX: u64 = 512;
/// What it says when the guest ran. Success alone proves nothing: a program that does not know the argument may have it too.
const PROBE_RAN: &str = "kvm runs a guest";
/// What a program that can probe is asked with, as its only argument.
const PROBE_ARGUMENT: &str = "probe-kvm";

/// What is known of KVM on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmFact {
    /// A tiny guest ran.
    Usable,
    /// Everything says that it is usable, but nobody let a guest run.
    Unproven,
    /// The processor has neither `vmx` nor `svm`, or hides them from this machine.
    NoVirtualization,
    /// There is no `/dev/kvm`.
    NoDevice,
    /// It can't be opened by this process.
    NotPermitted,
    /// The tiny guest did not end.
    Hangs,
    /// The tiny guest did not run.
    Fails(String),
}

impl KvmFact {
    /// Whether guests may be run with it.
    pub fn is_usable(&self) -> bool {
        matches!(self, KvmFact::Usable | KvmFact::Unproven)
    }

    /// Judges from the text of `/proc/cpuinfo`, the error of opening `/dev/kvm`, and what a tiny guest did.
    pub fn judge(
        cpuinfo: &str,
        opened: Result<(), ErrorKind>,
        probe: impl FnOnce() -> Option<Result<(), ProbeError>>,
    ) -> KvmFact {
        match opened {
            Err(ErrorKind::NotFound) => return KvmFact::NoDevice,
            Err(ErrorKind::PermissionDenied) => return KvmFact::NotPermitted,
            Err(other) => return KvmFact::Fails(format!("/dev/kvm can't be opened: {other}")),
            Ok(()) => {}
        }
        if !has_virtualization(cpuinfo) {
            return KvmFact::NoVirtualization;
        }
        match probe() {
            None => KvmFact::Unproven,
            Some(Ok(())) => KvmFact::Usable,
            Some(Err(ProbeError::Hangs)) => KvmFact::Hangs,
            Some(Err(ProbeError::Fails(words))) => KvmFact::Fails(words),
        }
    }

    /// Judges this host. Blocks for as long as the probe takes.
    pub fn detect(probe: Option<&ProbeCommand>) -> KvmFact {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm");
        KvmFact::judge(&cpuinfo, opened.map(drop).map_err(|error| error.kind()), || {
            probe.map(ProbeCommand::run)
        })
    }
}

impl fmt::Display for KvmFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvmFact::Usable => f.write_str("a guest runs under KVM"),
            KvmFact::Unproven => f.write_str("KVM opens, and was not tried"),
            KvmFact::NoVirtualization => {
                f.write_str("the processor has neither vmx nor svm, or hides them from this machine")
            }
            KvmFact::NoDevice => f.write_str("there is no /dev/kvm"),
            KvmFact::NotPermitted => f.write_str("/dev/kvm may not be opened by this user"),
            KvmFact::Hangs => write!(
                f,
                "a guest of a few instructions did not end under KVM within {} s",
                PROBE_MAX.as_secs()
            ),
            KvmFact::Fails(words) => write!(f, "KVM does not run a guest: {words}"),
        }
    }
}

/// Whether the processor says that it can run guests.
pub(crate) fn has_virtualization(cpuinfo: &str) -> bool {
    cpu_flags(cpuinfo).any(|flag| flag == "vmx" || flag == "svm")
}

/// The flags in the text of `/proc/cpuinfo`.
pub(crate) fn cpu_flags(cpuinfo: &str) -> impl Iterator<Item = &str> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim() == "flags")
        .flat_map(|(_, flags)| flags.split_ascii_whitespace())
}

/// The tiny guest did not do what it had to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeError {
    /// It did not end in time.
    Hangs,
    /// It failed, in words.
    Fails(String),
}

/// A program that runs the tiny guest when it is asked to.
#[derive(Debug, Clone)]
pub struct ProbeCommand {
    program: PathBuf,
    args: Vec<OsString>,
}

impl ProbeCommand {
    /// This very program, whose `main` begins with [`probe_if_asked`].
    pub fn this_program() -> ProbeCommand {
        ProbeCommand {
            program: "/proc/self/exe".into(),
            args: vec![PROBE_ARGUMENT.into()],
        }
    }

    /// Runs it, at most for two seconds. Blocks.
    pub fn run(&self) -> Result<(), ProbeError> {
        let fails = |error: std::io::Error| ProbeError::Fails(format!("the probe can't be run: {error}"));
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(fails)?;
        let give_up_at = Instant::now() + PROBE_MAX;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(fails)? {
                break status;
            }
            if Instant::now() >= give_up_at {
                let _ = child.kill();
                // Not waited for without a bound: it may be stuck in the kernel. Then it is init's, once we end.
                std::thread::spawn(move || child.wait());
                return Err(ProbeError::Hangs);
            }
            std::thread::sleep(PROBE_POLL);
        };
        let mut words = String::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = stdout.take(WORDS_BYTES_MAX).read_to_string(&mut words);
        }
        match (status.success(), words.trim()) {
            (true, PROBE_RAN) => Ok(()),
            (true, _) => Err(ProbeError::Fails(
                "the probe's program does not know how".to_owned(),
            )),
            (false, "") => Err(ProbeError::Fails(format!("the probe ended with {status}"))),
            (false, words) => Err(ProbeError::Fails(words.to_owned())),
        }
    }
}

/// For the first line of `main`: if this process was started to probe KVM, does that and says how it went; the caller
/// then ends with this code. `None`: it was started for something else.
pub fn probe_if_asked() -> Option<std::process::ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let is_asked = args.next().is_some_and(|arg| arg == PROBE_ARGUMENT) && args.next().is_none();
    is_asked.then(|| {
        use std::io::Write;
        let (words, code) = match probe::run_tiny_guest() {
            Ok(()) => (PROBE_RAN.to_owned(), std::process::ExitCode::SUCCESS),
            Err(words) => (words, std::process::ExitCode::FAILURE),
        };
        // Whoever asked reads it, or has gone.
        let _ = writeln!(std::io::stdout(), "{words}");
        code
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEL: &str = "processor\t: 0\nmodel name\t: svm-less\nflags\t\t: fpu vme vmx sse\nbugs\t\t:\n";
    const AMD: &str = "flags\t\t: fpu svm npt\n";
    const NESTED: &str =
        "model name\t: vmx svm\nflags\t\t: fpu vme sse hypervisor svm_lock\nvmx flags\t: vnmi\n";

    #[test]
    fn kvm_needs_the_processor_the_device_and_a_guest_that_ran() {
        let judge =
            |cpuinfo, opened, ran: Option<Result<(), ProbeError>>| KvmFact::judge(cpuinfo, opened, || ran);
        assert_eq!(judge(INTEL, Ok(()), Some(Ok(()))), KvmFact::Usable);
        assert_eq!(judge(AMD, Ok(()), Some(Ok(()))), KvmFact::Usable);
        assert_eq!(judge(AMD, Ok(()), None), KvmFact::Unproven);
        assert_eq!(judge(INTEL, Ok(()), Some(Err(ProbeError::Hangs))), KvmFact::Hangs);
        let fails = ProbeError::Fails("no".into());
        assert_eq!(
            judge(INTEL, Ok(()), Some(Err(fails))),
            KvmFact::Fails("no".into())
        );
        assert_eq!(
            judge(INTEL, Err(ErrorKind::NotFound), Some(Ok(()))),
            KvmFact::NoDevice
        );
        assert_eq!(
            judge(INTEL, Err(ErrorKind::PermissionDenied), None),
            KvmFact::NotPermitted
        );
    }

    #[test]
    fn a_processor_that_can_not_is_not_even_tried() {
        let never = || unreachable!("the tiny guest is not run");
        assert_eq!(KvmFact::judge(NESTED, Ok(()), never), KvmFact::NoVirtualization);
        assert_eq!(KvmFact::judge("", Ok(()), never), KvmFact::NoVirtualization);
    }

    fn shell(script: &str) -> ProbeCommand {
        ProbeCommand {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
        }
    }

    #[test]
    fn a_probe_that_hangs_is_ended_and_one_that_fails_is_quoted() {
        assert_eq!(shell("echo kvm runs a guest").run(), Ok(()));
        assert!(matches!(shell("exit 0").run(), Err(ProbeError::Fails(_))));
        assert_eq!(
            shell("echo no luck; exit 1").run(),
            Err(ProbeError::Fails("no luck".into()))
        );
        assert_eq!(
            shell("exit 7").run(),
            Err(ProbeError::Fails("the probe ended with exit status: 7".into()))
        );
        let started = Instant::now();
        assert_eq!(shell("exec sleep 600").run(), Err(ProbeError::Hangs));
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
