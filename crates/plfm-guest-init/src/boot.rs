//! The boot: stages in order, each with a deadline, a time and a typed failure.

use std::time::{Duration, Instant};

use plfm_guest_protocol::{Cmdline, Config, Failure, GuestMessage, Reason, Stage, StageTiming, Status};

use crate::connection::Connection;
use crate::control::Control;
use crate::exec::ExecService;
use crate::failure::StageError;
use crate::log::Log;
use crate::root::RootMounts;
use crate::session::Session;
use crate::volumes::MountedVolume;
use crate::watchdog::{Alarm, Watchdog};
use crate::{clock, control, log, network, process, root, secrets, shutdown, volumes};

/// How long a boot that failed before its handshake tries to tell the host.
const EARLY_DIAL: Duration = Duration::from_secs(1);

/// What the boot has come to so far: all that a failure, and later the shutdown, needs.
pub struct Boot {
    pub log: Log,
    pub watchdog: Watchdog,
    pub control: Option<Control>,
    pub mounts: Option<RootMounts>,
    pub volumes: Vec<MountedVolume>,
    stages: Vec<StageTiming>,
}

/// What runs when the boot is over.
pub struct Running {
    pub config: Config,
    pub workload: Session,
    pub exec: Option<ExecService>,
}

impl Boot {
    pub fn new() -> Self {
        Self {
            log: Log::default(),
            watchdog: Watchdog::start(shutdown::reboot),
            control: None,
            mounts: None,
            volumes: Vec::new(),
            stages: Vec::with_capacity(Stage::ALL.len()),
        }
    }

    fn stage<T>(
        &mut self,
        stage: Stage,
        run: impl FnOnce(&mut Self) -> Result<T, StageError>,
    ) -> Result<T, Failure> {
        let deadline = Duration::from_millis(stage.deadline_ms());
        self.watchdog.arm(overdue(stage, deadline, &self.stages));
        let (started_us, cpu_before_us) = (clock::monotonic_us(), clock::cpu_us());
        let result = run(self);
        let (finished_us, cpu_after_us) = (clock::monotonic_us(), clock::cpu_us());
        self.watchdog.disarm();
        self.stages.push(StageTiming {
            stage,
            started_us,
            finished_us,
            cpu_us: cpu_after_us.saturating_sub(cpu_before_us),
        });
        match result {
            Ok(value) => {
                self.log.add("stage_done", stage.as_str());
                Ok(value)
            }
            Err(StageError {
                reason,
                detail,
                errno,
            }) => Err(Failure {
                stage,
                reason,
                detail,
                errno,
            }),
        }
    }

    /// Reports a status on the control connection, where there is one.
    pub fn report(&mut self, status: Status) {
        let Some(control) = &mut self.control else { return };
        if let Err(error) = control.report(status) {
            self.log.add("report_lost", &error);
        }
    }

    /// Ends a boot that failed: says so on the console and to the host, and reboots.
    pub fn fail(mut self, failure: &Failure) {
        let Failure {
            stage,
            reason,
            detail,
            errno,
        } = failure;
        shutdown::guard(&self.watchdog, Vec::new());
        let errno = errno.map(|errno| format!(" errno={errno}")).unwrap_or_default();
        let text = format!("boot failed: stage={stage} reason={reason}{errno}: {detail}");
        self.log.add("boot_failed", &text);
        log::console(&text);
        log::console_raw(self.log.text());
        let stages = self.stages.clone();
        if *stage == Stage::KernelFilesystems {
            // Before the handshake there is no connection; without one nobody but the console would know.
            self.control = Control::greet("", "", EARLY_DIAL).ok();
        }
        self.report(Status::Failed {
            timestamp: clock::timestamp(),
            failure: failure.clone(),
            stages,
        });
        shutdown::run(self);
    }
}

fn overdue(stage: Stage, deadline: Duration, finished: &[StageTiming]) -> Alarm {
    let detail = format!("the stage did not end within {} ms", deadline.as_millis());
    let reason = match stage {
        Stage::KernelFilesystems | Stage::Volumes => Reason::MountFailed,
        Stage::Handshake => Reason::HandshakeFailed,
        Stage::RootDisk | Stage::ScratchDisk | Stage::Overlay | Stage::SwitchRoot => Reason::RootFailed,
        Stage::Network => Reason::NetConfigFailed,
        Stage::Secrets => Reason::SecretsWriteFailed,
        Stage::Workload => Reason::WorkloadStartFailed,
    };
    let text = format!("boot failed: stage={stage} reason={reason}: {detail}");
    let failure = Failure {
        stage,
        reason,
        detail,
        errno: None,
    };
    let status = Status::Failed {
        timestamp: clock::timestamp(),
        failure,
        stages: finished.to_vec(),
    };
    let report = as_line(status);
    Alarm {
        deadline: Instant::now() + deadline,
        kill_first: None,
        text,
        report,
    }
}

/// A status as it goes over the control connection.
pub fn as_line(status: Status) -> Vec<u8> {
    let mut line = serde_json::to_vec(&GuestMessage::Status(status)).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Boots. The order is the contract's.
pub fn run(boot: &mut Boot) -> Result<Running, Failure> {
    let cmdline = boot.stage(Stage::KernelFilesystems, |_| {
        root::mount_kernel_filesystems()?;
        let text = std::fs::read_to_string("/proc/cmdline")
            .map_err(|error| StageError::os(Reason::MountFailed, "cannot read /proc/cmdline", error))?;
        Cmdline::parse(&text).map_err(|error| StageError::new(Reason::ConfigParseFailed, error.to_string()))
    })?;
    let config = boot.stage(Stage::Handshake, |boot| {
        control::handshake(boot, &cmdline.instance_id)
    })?;
    boot.stage(Stage::RootDisk, |_| root::mount_root_disk())?;
    boot.stage(Stage::ScratchDisk, |_| root::mount_scratch_disk())?;
    let overlay = boot.stage(Stage::Overlay, |_| root::mount_overlay())?;
    boot.stage(Stage::SwitchRoot, |boot| {
        boot.mounts = Some(root::switch_root(overlay)?);
        root::open_log(&mut boot.log)
    })?;
    boot.stage(Stage::Network, |_| {
        #[cfg(feature = "faulty")]
        crate::fault::in_network()?;
        network::configure(config.network.as_ref(), &config.instance_id)
    })?;
    boot.stage(Stage::Secrets, |_| secrets::write(config.secrets.as_ref()))?;
    boot.stage(Stage::Volumes, |boot| {
        volumes::mount_all(&config.mounts, &mut boot.volumes)
    })?;
    boot.report(Status::ConfigApplied {
        timestamp: clock::timestamp(),
    });
    // Before the workload, which could take the port; so whoever reads `ready` can dial at once.
    let exec = listen_for_exec(&config, boot);
    let workload = boot.stage(Stage::Workload, |_| start_workload(&config))?;
    let memory = process::own_memory();
    let (timestamp, stages) = (clock::timestamp(), boot.stages.clone());
    boot.report(Status::Ready {
        timestamp,
        stages,
        memory,
    });
    boot.log
        .add("ready", &format!("generation {}", config.generation));
    Ok(Running {
        config,
        workload,
        exec,
    })
}

/// An exec service that cannot listen is missed, but the workload runs without it.
fn listen_for_exec(config: &Config, boot: &mut Boot) -> Option<ExecService> {
    if !config.exec.enabled {
        return None;
    }
    match ExecService::listen(config.exec.vsock_port, boot.watchdog.clone()) {
        Ok(service) => Some(service),
        Err(error) => {
            boot.log.add("exec_unavailable", &error.to_string());
            None
        }
    }
}

fn start_workload(config: &Config) -> Result<Session, StageError> {
    let output = match &config.output {
        None => None,
        Some(output) => {
            let connection =
                Connection::dial_host(output.vsock_port, Duration::from_secs(2)).map_err(|error| {
                    StageError::os(
                        Reason::WorkloadStartFailed,
                        "cannot connect the workload's output",
                        error,
                    )
                })?;
            Some(connection)
        }
    };
    process::start_workload(&config.workload, output)
}
