//! How a boot ended that did not become ready, and whom that speaks against.

use plfm_api::{BootOutcome, InstanceExit, StageTiming};
use plfm_guest_protocol::{Failure, HostEvent, Reason, Stage};
use plfm_vmm::VmExit;

use super::Command;
use super::conversation::ConversationError;
use crate::problem::chain;

/// How much of the console goes into a report, in characters.
const CONSOLE_DETAIL_MAX: usize = 400;

/// Which disks of an instance were brought as files: what is on them is the customer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brought {
    /// The root disk; this host made it of an image otherwise.
    pub root_disk: bool,
    /// The scratch disk; this host made it otherwise.
    pub scratch_disk: bool,
}

/// How a boot ended that did not become ready.
pub struct Unready {
    pub outcome: BootOutcome,
    pub stage: Option<Stage>,
    pub reason: Option<String>,
    pub detail: String,
    pub errno: Option<i32>,
    pub stages: Vec<StageTiming>,
}

impl Unready {
    pub fn new(outcome: BootOutcome, reason: &str, detail: impl Into<String>) -> Self {
        let reason = Some(reason.to_owned());
        Self {
            outcome,
            stage: None,
            reason,
            detail: detail.into(),
            errno: None,
            stages: Vec::new(),
        }
    }
}

/// A command that comes before the workload runs can only mean: do not go on.
pub fn cancelled_by(command: Option<Command>) -> Result<(), Unready> {
    match command {
        Some(Command::Signal { .. }) => Ok(()),
        Some(Command::Stop { .. }) | None => Err(Unready::new(
            BootOutcome::Cancelled,
            "cancelled",
            "stopped before the workload ran",
        )),
    }
}

pub fn lost(error: &ConversationError) -> Unready {
    Unready::new(BootOutcome::Failed, "protocol_broken", chain(error))
}

pub fn unexpected(event: &HostEvent) -> Unready {
    Unready::new(
        BootOutcome::Failed,
        "protocol_broken",
        format!("the guest reported out of order: {event:?}"),
    )
}

pub fn failed(failure: Failure, stages: &[plfm_guest_protocol::StageTiming], brought: Brought) -> Unready {
    let Failure {
        stage,
        reason,
        detail,
        errno,
    } = failure;
    let reason_name = Some(reason.as_str().to_owned());
    let stages = stage_timings(stages);
    Unready {
        outcome: attribute(stage, reason, brought),
        stage: Some(stage),
        reason: reason_name,
        detail,
        errno,
        stages,
    }
}

/// Whom a failed stage speaks against. The program is the customer's, and so are the disks that were brought; all else
/// may be the release's fault, and counts against it. (Secrets were checked before the boot.) A root disk that this host
/// made of an image is one that every release must mount.
fn attribute(stage: Stage, reason: Reason, brought: Brought) -> BootOutcome {
    match (stage, reason) {
        (Stage::ScratchDisk | Stage::Overlay, _) if brought.scratch_disk => BootOutcome::CustomerFailure,
        (Stage::RootDisk, _) if brought.root_disk => BootOutcome::CustomerFailure,
        (Stage::Workload, Reason::WorkloadStartFailed) | (_, Reason::SecretsMissing) => {
            BootOutcome::CustomerFailure
        }
        (
            Stage::KernelFilesystems
            | Stage::Handshake
            | Stage::RootDisk
            | Stage::ScratchDisk
            | Stage::Overlay
            | Stage::SwitchRoot
            | Stage::Network
            | Stage::Secrets
            | Stage::Volumes
            | Stage::Workload,
            _,
        ) => BootOutcome::Failed,
    }
}

pub fn stage_timings(stages: &[plfm_guest_protocol::StageTiming]) -> Vec<StageTiming> {
    let convert = |timing: &plfm_guest_protocol::StageTiming| StageTiming {
        stage: timing.stage.as_str().to_owned(),
        started_us: timing.started_us,
        finished_us: timing.finished_us,
        cpu_us: timing.cpu_us,
    };
    stages.iter().map(convert).collect()
}

/// A VM that ended before ready: what its console says is all there is.
pub fn ended_early(exit: &VmExit, brought: Brought) -> Unready {
    if let Some(panic) = &exit.kernel_panic {
        return Unready::new(BootOutcome::KernelPanic, "kernel_panic", panic.clone());
    }
    let said = exit
        .console_tail
        .lines()
        .rfind(|line| line.contains("guest-init: boot failed:"));
    if let Some(line) = said {
        // Guest init says on the console what it could not say over vsock.
        let field = |key: &str| {
            line.split_ascii_whitespace()
                .find_map(|word| word.strip_prefix(key))
        };
        let stage =
            field("stage=").and_then(|name| Stage::ALL.into_iter().find(|stage| stage.as_str() == name));
        let reason = field("reason=").map(|reason| reason.trim_end_matches(':').to_owned());
        let errno = field("errno=").and_then(|errno| errno.trim_end_matches(':').parse().ok());
        let known = reason
            .as_ref()
            .and_then(|reason| serde_json::from_value::<Reason>(reason.as_str().into()).ok());
        let outcome = match (stage, known) {
            (Some(stage), Some(reason)) => attribute(stage, reason, brought),
            (Some(_), None) | (None, _) => BootOutcome::Failed,
        };
        let detail = console_end(line);
        return Unready {
            outcome,
            stage,
            reason,
            detail,
            errno,
            stages: Vec::new(),
        };
    }
    let detail = format!(
        "{exit}; its console ends with: {}",
        console_end(&exit.console_tail)
    );
    Unready::new(BootOutcome::VmmFailed, exit.cause.code(), detail)
}

/// How the workload ended, from the line that guest init prints last: for an exit whose report did not arrive.
pub fn exit_told_in(console: &str) -> Option<InstanceExit> {
    let line = console
        .lines()
        .rfind(|line| line.contains("guest-init: workload exited:"))?;
    let words = || line.split_ascii_whitespace();
    let field = |key: &str| words().find_map(|word| word.strip_prefix(key));
    let number = |key: &str| field(key).and_then(|text| text.parse().ok());
    let (exit_code, signal) = (number("exit_code="), number("signal="));
    (exit_code.is_some() || signal.is_some()).then(|| InstanceExit {
        exit_code,
        signal,
        oom_killed: words().any(|word| word == "oom_killed"),
        duration_ms: field("duration_ms=")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        reason: field("reason=").map(str::to_owned),
    })
}

pub fn console_end(text: &str) -> String {
    let printable = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let skip = text.trim().chars().count().saturating_sub(CONSOLE_DETAIL_MAX);
    let end: String = printable.skip(skip).collect();
    if end.is_empty() {
        "(nothing)".to_owned()
    } else {
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ROOT: Brought = Brought {
        root_disk: true,
        scratch_disk: false,
    };
    const OWN_SCRATCH: Brought = Brought {
        root_disk: true,
        scratch_disk: true,
    };
    const NOTHING: Brought = Brought {
        root_disk: false,
        scratch_disk: false,
    };

    #[test]
    fn the_customers_own_failures_do_not_speak_against_the_release() {
        use BootOutcome::{CustomerFailure, Failed};
        assert_eq!(
            attribute(Stage::RootDisk, Reason::RootFailed, ROOT),
            CustomerFailure
        );
        assert_eq!(
            attribute(Stage::Workload, Reason::WorkloadStartFailed, ROOT),
            CustomerFailure
        );
        assert_eq!(
            attribute(Stage::Secrets, Reason::SecretsMissing, ROOT),
            CustomerFailure
        );
        assert_eq!(
            attribute(Stage::Secrets, Reason::SecretsWriteFailed, ROOT),
            Failed
        );
        assert_eq!(attribute(Stage::Overlay, Reason::RootFailed, ROOT), Failed);
        assert_eq!(attribute(Stage::ScratchDisk, Reason::RootFailed, ROOT), Failed);
        assert_eq!(
            attribute(Stage::ScratchDisk, Reason::RootFailed, OWN_SCRATCH),
            CustomerFailure
        );
        assert_eq!(attribute(Stage::Network, Reason::NetConfigFailed, ROOT), Failed);
    }

    #[test]
    fn a_release_that_cannot_mount_what_the_host_made_of_an_image_is_to_blame() {
        assert_eq!(
            attribute(Stage::RootDisk, Reason::RootFailed, NOTHING),
            BootOutcome::Failed
        );
        let program = attribute(Stage::Workload, Reason::WorkloadStartFailed, NOTHING);
        assert_eq!(program, BootOutcome::CustomerFailure);
    }

    fn ended_with(console: &str) -> VmExit {
        VmExit {
            cause: plfm_vmm::ExitCause::GuestReset,
            status: None,
            kernel_panic: None,
            console_tail: console.to_owned(),
            console_truncated: false,
            stderr_tail: String::new(),
            ran_for: Duration::ZERO,
        }
    }

    #[test]
    fn an_exit_told_only_on_the_console_is_found_there() {
        let told = "x\nguest-init: workload exited: exit_code=7 duration_ms=1234 reason=workload_crashed\n";
        let exit = exit_told_in(told).unwrap();
        assert_eq!(
            (exit.exit_code, exit.signal, exit.oom_killed, exit.duration_ms),
            (Some(7), None, false, 1234)
        );
        assert_eq!(exit.reason.as_deref(), Some("workload_crashed"));
        let killed = "guest-init: workload exited: signal=9 oom_killed duration_ms=5\n";
        let exit = exit_told_in(killed).unwrap();
        assert_eq!(
            (exit.exit_code, exit.signal, exit.oom_killed),
            (None, Some(9), true)
        );
        for nothing in [
            "",
            "guest-init: workload exited: status unknown",
            "workload exited: exit_code=1",
        ] {
            assert_eq!(exit_told_in(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_failure_told_only_on_the_console_is_found_there() {
        let text = "x\nguest-init: boot failed: stage=handshake reason=handshake_failed errno=104: cannot connect\n{}\n";
        let unready = ended_early(&ended_with(text), ROOT);
        assert_eq!(
            (unready.stage, unready.errno),
            (Some(Stage::Handshake), Some(104))
        );
        assert_eq!(unready.reason.as_deref(), Some("handshake_failed"));
    }
}
