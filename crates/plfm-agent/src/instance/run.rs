//! The life of one instance: the task that owns its state.
//!
//! ```text
//! Preparing --made, VM started--> Booting --ready--> Running --stop--> Stopping
//!     |                              |                  |                 |
//!     +------------ failed ----------+                  +---- exited, or the VM is gone ----+
//!                      v                                                                    v
//!                   Failed                                                               Stopped
//! ```
//!
//! Every wait has a bound, and whatever happens the VM, its sockets, its disk and its network are gone at the end.

use std::time::Duration;

use jiff::Timestamp;
use plfm_api::{BootOutcome, BootReport, HostTimings, Instance, InstanceExit, InstanceState};
use plfm_guest_protocol::{CONTROL_PORT, Config, Exit, HostEvent, OUTPUT_PORT, ProtocolError};
use plfm_vmm::{Jail, Vm, VmConfig, VmImage, VsockListener};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::conversation::{Conversation, ConversationError};
use super::output::{self, OutputLog};
use super::plan::{BootPlan, elapsed_us};
use super::prepare::{Prepared, prepare};
use super::record::{ProcessId, Record, save};
use super::verdict::{
    Unready, cancelled_by, console_end, ended_early, exit_told_in, failed, lost, stage_timings, unexpected,
};
use super::{Command, Setting};
use crate::problem::chain;

/// From the hello to ready. Every stage of the guest has its own deadline; this is for a guest that hangs whole.
const READY_PATIENCE: Duration = Duration::from_secs(150);
/// From the guest's last word to the end of the VM: volumes are unmounted in it.
const GONE_PATIENCE: Duration = Duration::from_secs(45);
/// Beyond the grace period, for the guest to kill, unmount and report: it gives itself 30 s for that (docs/guest.md, "The
/// end"), and who kills it earlier loses its report and leaves volumes mounted.
const STOP_MARGIN: Duration = Duration::from_secs(40);
/// How long the guest may take to read one command. It reads them at once; the socket takes thousands.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);
/// From the end of the VM to the end of its output. All of it is in the socket's buffer by then.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(5);
/// How long the record of an end is tried to be written, in all, and the pause between two attempts.
const SAVE_PATIENCE: Duration = Duration::from_secs(60);
const SAVE_PAUSE: Duration = Duration::from_millis(200);

struct Run {
    plan: BootPlan,
    setting: Setting,
    view: Instance,
    publish: watch::Sender<Instance>,
    commands: mpsc::Receiver<Command>,
    output: OutputLog,
    collection: Option<Collection>,
    timings: HostTimings,
    processes: Vec<ProcessId>,
    tap: Option<String>,
    jail: Option<Jail>,
    /// Whether the boot's end was told.
    is_boot_told: bool,
    /// When the end is no longer tried to be written, once there is one.
    save_by: Option<Instant>,
}

/// The task that takes the workload's output.
struct Collection {
    task: JoinHandle<()>,
    /// Tells it that the guest is gone.
    gone: CancellationToken,
}

/// Runs an instance from its plan to its end.
pub async fn run(
    plan: BootPlan,
    setting: Setting,
    publish: watch::Sender<Instance>,
    commands: mpsc::Receiver<Command>,
    output: OutputLog,
) {
    let view = publish.borrow().clone();
    let timings = plan.timings.clone();
    let (processes, tap) = (Vec::new(), None);
    let mut run = Run {
        plan,
        setting,
        view,
        publish,
        commands,
        output,
        collection: None,
        timings,
        processes,
        tap,
        jail: None,
        is_boot_told: false,
        save_by: None,
    };
    run.live().await;
    run.end_output().await;
    run.view.ended_at = Some(Timestamp::now());
    let state = if matches!(&run.view.boot, Some(boot) if boot.outcome == BootOutcome::Ready || boot.outcome == BootOutcome::Cancelled)
    {
        InstanceState::Stopped
    } else {
        InstanceState::Failed
    };
    run.processes.clear();
    run.tap = None;
    run.jail = None;
    run.view.state = state;
    run.save_end().await;
    run.tell_boot().await;
    // Before it is seen to be over: who sees it may remove what nothing runs from.
    run.plan.image = None;
    run.publish.send_replace(run.view.clone());
}

impl Run {
    async fn live(&mut self) {
        let prepared = match prepare(&self.plan, &self.setting).await {
            Ok(prepared) => prepared,
            Err(error) => {
                return self.fail(Unready::new(
                    BootOutcome::VmmFailed,
                    "prepare_failed",
                    chain(&error),
                ));
            }
        };
        self.timings.prepared_us = Some(elapsed_us(self.plan.started));
        self.tap = prepared.network.as_ref().map(|network| network.tap.clone());
        self.jail = prepared.jail.clone();
        self.view.address = prepared.network.as_ref().map(|network| network.address);
        // On disk before there is a process: an agent that dies from here on leaves a trace of what it made.
        self.enter(InstanceState::Preparing).await;
        match self.boot(&prepared).await {
            Ok((vm, conversation)) => self.supervise(vm, conversation).await,
            Err(unready) => self.fail(unready),
        }
    }

    /// Takes what is left of the output, now that the VM is gone, and closes the log.
    async fn end_output(&mut self) {
        if let Some(Collection { mut task, gone }) = self.collection.take() {
            gone.cancel();
            if timeout(OUTPUT_PATIENCE, &mut task).await.is_err() {
                warn!(
                    instance = self.plan.id,
                    "the output's connection outlives the VM: given up"
                );
                task.abort();
                // An abort is done when the task is, and only then does nothing more come.
                let _ = task.await;
            }
        }
        self.output.close();
    }

    fn fail(&mut self, unready: Unready) {
        let Unready {
            outcome,
            stage,
            reason,
            detail,
            errno,
            stages,
        } = unready;
        self.timings.settled_us = Some(elapsed_us(self.plan.started));
        let stage_name = stage.map(|stage| stage.as_str().to_owned());
        warn!(
            instance = self.plan.id,
            outcome = outcome.as_str(),
            stage = stage_name,
            reason,
            "boot failed: {detail}"
        );
        self.view.boot = Some(BootReport {
            release: self.plan.release.id().clone(),
            release_reason: Some(self.view.release_reason.clone()),
            selection: self.view.selection.clone(),
            outcome,
            stage: stage_name,
            reason,
            detail: Some(detail),
            errno,
            stages,
            host: self.timings.clone(),
            guest_init_rss_bytes: None,
        });
    }

    /// Changes the state: first on disk, then for everyone to see.
    async fn enter(&mut self, state: InstanceState) {
        self.view.state = state;
        self.save().await;
        self.publish.send_replace(self.view.clone());
    }

    async fn save(&self) -> bool {
        let record = Record {
            instance: self.view.clone(),
            processes: self.processes.clone(),
            tap: self.tap.clone(),
            jail: self.jail.clone().map(Into::into),
            run_dir: Some(self.setting.run_dir.clone()),
        };
        let dir = self.setting.dir.clone();
        let saved = tokio::task::spawn_blocking(move || save(&dir, &record)).await;
        if let Ok(Err(error)) = &saved {
            warn!(
                instance = self.plan.id,
                "cannot write the instance's record: {error}"
            );
        }
        matches!(saved, Ok(Ok(())))
    }

    /// Writes the record of an end until it is written: an instance does not count as over before that. A disk that is
    /// full for longer than [`SAVE_PATIENCE`] must not keep the agent from ending, so then the view and the log have to
    /// do. Commands wait in the meantime: there is nothing left to stop.
    async fn save_end(&mut self) {
        let give_up_at = *self.save_by.get_or_insert_with(|| Instant::now() + SAVE_PATIENCE);
        self.view.end_unsaved = false;
        while !self.save().await {
            if Instant::now() >= give_up_at {
                error!(instance = self.plan.id, exit = ?self.view.exit, "the end is on no disk");
                self.view.end_unsaved = true;
                return;
            }
            tokio::time::sleep(SAVE_PAUSE).await;
        }
    }

    /// Tells how the boot went, once. Its record is on disk by now; an agent that dies in between finds it there.
    async fn tell_boot(&mut self) {
        if self.is_boot_told || self.view.boot.is_none() {
            return;
        }
        self.is_boot_told = true;
        let (listener, view) = (self.setting.on_boot.clone(), self.view.clone());
        let _ = tokio::task::spawn_blocking(move || listener(&view)).await;
    }

    /// Starts the VM and brings it to ready. On any failure the VM is gone.
    async fn boot(&mut self, prepared: &Prepared) -> Result<(Vm, Conversation), Unready> {
        let vmm_failed = |code: &str, error: &dyn std::error::Error| {
            Unready::new(BootOutcome::VmmFailed, code, chain(error))
        };
        let vsock = self
            .setting
            .backend
            .vsock(&self.setting.run_dir)
            .map_err(|error| vmm_failed(error.code(), &error))?;
        let listen = |port| {
            vsock
                .listen(port)
                .map_err(|error| vmm_failed(error.code(), &error))
        };
        // Listening before the VM starts, as Firecracker needs it: the guest may dial at once.
        let (control, output) = (listen(CONTROL_PORT)?, listen(OUTPUT_PORT)?);
        let config = self
            .vm_config(prepared)
            .map_err(|error| vmm_failed("disk_error", &error))?;
        let vm = Vm::start(&self.setting.backend, config)
            .await
            .map_err(|error| vmm_failed(error.code(), &error))?;
        self.timings.started_us = Some(elapsed_us(self.plan.started));
        self.processes = vm.pids().iter().filter_map(|pid| ProcessId::of(*pid)).collect();
        self.enter(InstanceState::Booting).await;
        let gone = CancellationToken::new();
        let task = tokio::spawn(output::collect(output, self.output.clone(), gone.clone()));
        self.collection = Some(Collection { task, gone });
        let result = self.reach_ready(&vm, &control, prepared).await;
        match result {
            Ok(conversation) => Ok((vm, conversation)),
            Err(unready) => {
                // A guest that reported a failure is about to reboot: its console has the rest of the story.
                let gone = match unready.outcome {
                    BootOutcome::Cancelled | BootOutcome::HandshakeTimeout => None,
                    _ => timeout(GONE_PATIENCE, vm.wait()).await.ok(),
                };
                if gone.is_none() {
                    vm.kill().await;
                }
                Err(unready)
            }
        }
    }

    fn vm_config(&self, prepared: &Prepared) -> std::io::Result<VmConfig> {
        let pair = &self.plan.pair;
        let resources = self.plan.request.resources;
        let [a, b, c, d, e, ..] = self.plan.address_suffix;
        Ok(VmConfig {
            dir: self.setting.run_dir.clone(),
            kernel: VmImage::new(pair.kernel.try_clone()?),
            initramfs: VmImage::new(pair.initramfs.try_clone()?),
            cmdline_extra: vec![format!("plfm.instance_id={}", self.plan.id)],
            memory_mib: resources.memory_mib,
            vcpus: resources.vcpus,
            disks: self.plan.disks(&prepared.scratch),
            tap: prepared.network.as_ref().map(|network| plfm_vmm::TapConfig {
                name: network.tap.clone(),
                mac: plfm_vmm::MacAddress::local([a, b, c, d, e]),
                mtu: crate::network::MTU,
            }),
            console_bytes_max: plfm_vmm::CONSOLE_BYTES_MAX_DEFAULT,
            start_timeout: plfm_vmm::START_TIMEOUT_DEFAULT,
        })
    }

    async fn reach_ready(
        &mut self,
        vm: &Vm,
        control: &VsockListener,
        prepared: &Prepared,
    ) -> Result<Conversation, Unready> {
        let hello_by = Instant::now() + self.setting.hello_patience;
        let stream = self.accept(vm, control, hello_by).await?;
        let mut conversation = Conversation::new(stream);
        let late = Unready::new(
            BootOutcome::HandshakeTimeout,
            "handshake_timeout",
            "the guest connected and sent no hello",
        );
        match self.next_event(vm, &mut conversation, hello_by, late).await? {
            HostEvent::Hello(hello) if hello.instance_id == self.plan.id => {
                self.timings.hello_us = Some(elapsed_us(self.plan.started));
            }
            // It failed before it could read who it is: its next word says how.
            HostEvent::Hello(hello) if hello.is_nameless() => {
                let silent = Unready::new(
                    BootOutcome::Failed,
                    "instance_unknown",
                    "the guest does not know which instance it is",
                );
                return Err(
                    match self.next_event(vm, &mut conversation, hello_by, silent).await? {
                        HostEvent::Failed { failure, stages } => {
                            failed(failure, &stages, self.plan.brought())
                        }
                        other => unexpected(&other),
                    },
                );
            }
            HostEvent::Hello(_) => {
                let detail = "this socket belongs to another instance";
                let _ = conversation
                    .reject("instance_unknown", detail, Instant::now() + COMMAND_PATIENCE)
                    .await;
                return Err(Unready::new(
                    BootOutcome::Failed,
                    "instance_unknown",
                    "the guest claims to be another instance",
                ));
            }
            other => return Err(unexpected(&other)),
        }
        let config = self
            .plan
            .config(prepared.network.as_ref().map(|network| network.address));
        let ready_by = Instant::now() + READY_PATIENCE;
        self.send_config(vm, &mut conversation, &config, ready_by).await?;
        loop {
            let late = Unready::new(
                BootOutcome::Failed,
                "boot_timeout",
                "the guest stopped reporting before it was ready",
            );
            match self.next_event(vm, &mut conversation, ready_by, late).await? {
                HostEvent::Acked { .. } | HostEvent::ConfigApplied => {}
                HostEvent::Ready { stages, memory } => {
                    self.timings.settled_us = Some(elapsed_us(self.plan.started));
                    self.view.boot = Some(BootReport {
                        release: self.plan.release.id().clone(),
                        release_reason: Some(self.view.release_reason.clone()),
                        selection: self.view.selection.clone(),
                        outcome: BootOutcome::Ready,
                        stage: None,
                        reason: None,
                        detail: None,
                        errno: None,
                        stages: stage_timings(&stages),
                        host: self.timings.clone(),
                        guest_init_rss_bytes: memory.map(|memory| memory.rss_bytes),
                    });
                    info!(instance = self.plan.id, release = %self.plan.release.id(), "ready");
                    self.enter(InstanceState::Running).await;
                    self.tell_boot().await;
                    return Ok(conversation);
                }
                HostEvent::Failed { failure, stages } => {
                    return Err(failed(failure, &stages, self.plan.brought()));
                }
                other @ (HostEvent::Hello(_) | HostEvent::Exited(_)) => return Err(unexpected(&other)),
            }
        }
    }

    /// Sends the config, which may be larger than what a socket takes at once.
    async fn send_config(
        &mut self,
        vm: &Vm,
        conversation: &mut Conversation,
        config: &Config,
        by: Instant,
    ) -> Result<(), Unready> {
        let sending = conversation.send_config(config, by);
        tokio::pin!(sending);
        let sent = loop {
            tokio::select! {
                sent = &mut sending => break sent,
                command = self.commands.recv() => cancelled_by(command)?,
            }
        };
        match sent {
            Ok(()) => Ok(()),
            Err(ConversationError::Deaf) => Err(Unready::new(
                BootOutcome::Failed,
                "boot_timeout",
                "the guest did not read its config",
            )),
            Err(error) => Err(self.broken(vm, &error).await),
        }
    }

    /// Why the conversation broke before ready. The VM's end explains a lost connection better than the connection does.
    async fn broken(&self, vm: &Vm, error: &ConversationError) -> Unready {
        match error {
            ConversationError::Protocol(_) => lost(error),
            ConversationError::Closed | ConversationError::Deaf | ConversationError::Stream(_) => {
                match timeout(GONE_PATIENCE, vm.wait()).await {
                    Ok(exit) => ended_early(&exit, self.plan.brought()),
                    Err(_) => lost(error),
                }
            }
        }
    }

    async fn accept(
        &mut self,
        vm: &Vm,
        control: &VsockListener,
        deadline: Instant,
    ) -> Result<UnixStream, Unready> {
        loop {
            tokio::select! {
                accepted = control.accept() => {
                    return accepted.map_err(|error| lost(&ConversationError::Stream(error)));
                }
                exit = vm.wait() => return Err(ended_early(&exit, self.plan.brought())),
                command = self.commands.recv() => cancelled_by(command)?,
                () = sleep_until(deadline) => {
                    let detail = format!("the guest sent no hello; its console ends with: {}", console_end(&vm.console_tail()));
                    return Err(Unready::new(BootOutcome::HandshakeTimeout, "handshake_timeout", detail));
                }
            }
        }
    }

    async fn next_event(
        &mut self,
        vm: &Vm,
        conversation: &mut Conversation,
        deadline: Instant,
        late: Unready,
    ) -> Result<HostEvent, Unready> {
        let event = loop {
            tokio::select! {
                event = conversation.next_event() => break event,
                command = self.commands.recv() => cancelled_by(command)?,
                () = sleep_until(deadline) => return Err(late),
            }
        };
        match event {
            Ok(event) => Ok(event),
            Err(ConversationError::Protocol(ProtocolError::ProtocolMismatch { guest })) => {
                let detail = format!(
                    "the guest speaks protocol {guest}, its manifest says {}",
                    self.plan.release.protocol()
                );
                let _ = conversation
                    .reject(
                        "guest_init_protocol_mismatch",
                        &detail,
                        Instant::now() + COMMAND_PATIENCE,
                    )
                    .await;
                Err(Unready::new(
                    BootOutcome::ProtocolMismatch,
                    "guest_init_protocol_mismatch",
                    detail,
                ))
            }
            Err(error) => Err(self.broken(vm, &error).await),
        }
    }

    /// From ready to the end.
    async fn supervise(&mut self, vm: Vm, mut conversation: Conversation) {
        let mut kill_at: Option<Instant> = None;
        let exit = loop {
            tokio::select! {
                event = conversation.next_event() => match event {
                    Ok(HostEvent::Exited(exit)) => break Some(exit),
                    Ok(other) => warn!(instance = self.plan.id, "unexpected report: {other:?}"),
                    Err(error) => {
                        // Without a conversation the workload may still run; its VM's end is the next news.
                        warn!(instance = self.plan.id, "{}", chain(&error));
                        self.outlive_conversation(&vm, &mut kill_at).await;
                        break None;
                    }
                },
                Some(command) = self.commands.recv() => {
                    self.pass_on(command, &mut conversation, &mut kill_at).await;
                }
                () = until(kill_at) => {
                    warn!(instance = self.plan.id, "the guest did not stop in time: killed");
                    break None;
                }
            }
        };
        match exit {
            Some(exit) => {
                self.view.exit = Some(instance_exit(exit));
                // Durable before the guest is let go: closing the connection is what it waits for.
                self.save_end().await;
                drop(conversation);
                if timeout(GONE_PATIENCE, vm.wait()).await.is_err() {
                    warn!(
                        instance = self.plan.id,
                        "the VM did not end after its report: killed"
                    );
                    vm.kill().await;
                }
            }
            None => {
                let end = vm.kill().await;
                let reason = match (&end.kernel_panic, kill_at) {
                    (Some(_), _) => "kernel_panic",
                    (None, Some(_)) => "killed",
                    (None, None) => "vm_lost",
                };
                warn!(
                    instance = self.plan.id,
                    reason, "the VM ended without a report: {end}"
                );
                // Guest init says on the console too how the workload ended.
                self.view.exit = exit_told_in(&end.console_tail).or_else(|| {
                    Some(InstanceExit {
                        exit_code: None,
                        signal: None,
                        oom_killed: false,
                        duration_ms: 0,
                        reason: Some(reason.to_owned()),
                    })
                });
            }
        }
        info!(instance = self.plan.id, exit = ?self.view.exit, "over");
    }

    /// Gives the guest a command. One that cannot even be told to stop is stopped by its VM's end.
    async fn pass_on(
        &mut self,
        command: Command,
        conversation: &mut Conversation,
        kill_at: &mut Option<Instant>,
    ) {
        let told_by = Instant::now() + COMMAND_PATIENCE;
        let told = match command {
            Command::Stop { grace_seconds } => {
                let grace = grace_seconds.unwrap_or(self.plan.stop_grace_seconds());
                let margin = Duration::from_secs(u64::from(grace)) + STOP_MARGIN;
                hurry(kill_at, Instant::now() + margin);
                let told = conversation.stop(grace_seconds, told_by).await;
                if matches!(&told, Err(ConversationError::Deaf)) {
                    hurry(kill_at, Instant::now());
                }
                self.enter(InstanceState::Stopping).await;
                told
            }
            Command::Signal { signal } => conversation.signal(&signal, told_by).await,
        };
        if let Err(error) = told {
            warn!(
                instance = self.plan.id,
                "cannot reach the guest: {}",
                chain(&error)
            );
        }
    }

    /// Waits for the end of a VM whose guest cannot be reached. All that can be done to it is to end it.
    async fn outlive_conversation(&mut self, vm: &Vm, kill_at: &mut Option<Instant>) {
        loop {
            tokio::select! {
                _ = vm.wait() => return,
                () = until(*kill_at) => return,
                Some(command) = self.commands.recv() => match command {
                    Command::Stop { .. } => {
                        hurry(kill_at, Instant::now());
                        self.enter(InstanceState::Stopping).await;
                    }
                    Command::Signal { signal } => warn!(
                        instance = self.plan.id,
                        signal, "a signal was not delivered: the guest cannot be reached"
                    ),
                },
            }
        }
    }
}

/// Sleeps until the time that is set, if one is.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A later stop can only bring the end nearer.
fn hurry(kill_at: &mut Option<Instant>, by: Instant) {
    *kill_at = Some(kill_at.map_or(by, |at| at.min(by)));
}

fn instance_exit(exit: Exit) -> InstanceExit {
    let Exit {
        exit_code,
        signal,
        oom_killed,
        duration_ms,
        reason,
    } = exit;
    InstanceExit {
        exit_code,
        signal,
        oom_killed,
        duration_ms,
        reason: reason.map(|reason| reason.as_str().to_owned()),
    }
}
