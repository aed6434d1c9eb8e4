//! The link to the control plane, as the rest of the agent sees it.
//!
//! ```text
//! enrolment ──> link ──heartbeats, targets──> applied target ──> selection (each boot) ──> begun (a canary's boots)
//! (identity)     ^                                   └─────────> fetches ──> cache
//!                └── reports <── boots' records
//! ```
//!
//! Everything that a boot needs of it is in memory and on this host's disk: a boot never waits for the network, and an
//! agent that is cut off goes on with the last target that it applied. Without `--control` none of this runs.
//!
//! Invariant: the target that the host goes by is on disk before anything is done about it, and its generation only
//! rises, across restarts too.

mod apply;
mod begun;
mod enroll;
mod fetches;
mod https;
mod identity;
mod journal;
mod link;
mod pace;
mod reports;
mod side;
mod status;
mod transport;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use jiff::Timestamp;
use plfm_api::control::{Generation, HostId, Target};
use plfm_api::{ControlLink, ControlProblem, Instance};
use plfm_release::{ReleaseId, Sha256Digest};
use plfm_rollout::selection::{Begun, Policy, Reason};
use plfm_rollout::window::{Window, WindowState, window_at};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use self::apply::Offer;
pub use self::begun::BeginError;
use self::begun::BegunBoots;
use self::fetches::Failures;
use self::identity::ControlDir;
use self::journal::Boot;
use self::link::Wake;
use self::reports::{FileShelf, Reports};
use self::side::HostSide;
use super::{Agent, make_private_dir, read_bounded};
use crate::durable;
use crate::problem::chain;
use crate::settings::Settings;

const TARGET_FILE: &str = "target.json";
/// Largest target file, in bytes: as large as an answer of the control plane may be.
const TARGET_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Largest file with the control plane's authority, in bytes.
const CA_BYTES_MAX: u64 = 256 * 1024;

/// What the agent is told of its control plane.
struct Told {
    url: Url,
    ca: Vec<u8>,
    token_file: Option<PathBuf>,
    host_name: String,
}

/// The agent's side of its control plane.
pub struct Control {
    told: Told,
    dir: ControlDir,
    reports: Reports<FileShelf>,
    begun: BegunBoots,
    wake: Arc<Wake>,
    /// There may be something to fetch.
    fetch_wake: Notify,
    state: Mutex<State>,
    /// Held while a target is applied: they are applied one after the other.
    applying: Mutex<()>,
}

/// What the host goes by. On disk as it is here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Applied {
    #[serde(flatten)]
    target: Target,
    /// Whether it takes no new instances.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    drain: bool,
}

#[derive(Default)]
struct State {
    applied: Option<Applied>,
    policy: Policy,
    /// The target's window, or why it cannot be used.
    window: Option<Result<Window, String>>,
    /// What the target names and the host does not have, most wanted first.
    missing: Vec<ReleaseId>,
    /// What may be fetched now.
    granted: BTreeSet<ReleaseId>,
    failures: Failures,
    host: Option<HostId>,
    not_after: Option<Timestamp>,
    /// The end of the certificate that the control plane, whose clock counts, takes for expired.
    expired: Option<Timestamp>,
    /// The token that the control plane did not take. It is not shown it again: who guesses too often is kept out, and
    /// with it whoever has the same address.
    refused_token: Option<Sha256Digest>,
    connected: bool,
    last_contact: Option<Timestamp>,
    problem: Option<ControlProblem>,
}

impl State {
    fn go_by(&mut self, applied: Applied) {
        self.policy = apply::policy(&applied.target);
        self.window = match apply::window(&applied.target) {
            Ok(window) => window.map(Ok),
            Err(problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Some(Err(problems.join(", ")))
            }
        };
        self.applied = Some(applied);
    }

    fn target(&self) -> Option<&Target> {
        self.applied.as_ref().map(|applied| &applied.target)
    }

    fn generation(&self) -> Generation {
        self.target().map(|target| target.generation).unwrap_or_default()
    }

    /// Whether releases may be fetched now. A window that cannot be used is not open.
    fn is_window_open(&self, now: Timestamp) -> bool {
        match &self.window {
            None => true,
            Some(Ok(window)) => window_at(window, now).is_open(),
            Some(Err(_)) => false,
        }
    }

    fn describe_window(&self, now: Timestamp) -> String {
        match &self.window {
            None => "open".to_owned(),
            Some(Ok(window)) => match window_at(window, now) {
                state @ (WindowState::Open { .. } | WindowState::Closed { .. }) => state.to_string(),
            },
            Some(Err(problems)) => format!("closed: {problems}"),
        }
    }
}

impl Control {
    /// Reads what earlier agents left, so that the host goes by it from its first boot on. `None` where the agent is told
    /// of no control plane. Blocking.
    pub fn open(settings: &Settings) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(url) = &settings.control else {
            return Ok(None);
        };
        anyhow::ensure!(
            url.scheme() == "https" && url.host().is_some(),
            "--control {url} is not an https:// address"
        );
        let ca_path = settings
            .control_ca
            .as_deref()
            .context("--control needs --control-ca, what its certificate is trusted by")?;
        let ca = read_bounded(ca_path, CA_BYTES_MAX)
            .with_context(|| format!("cannot read {} (--control-ca names it)", ca_path.display()))?;
        let path = settings.state_dir.join("control");
        make_private_dir(&path)?;
        let told = Told {
            url: url.clone(),
            ca,
            token_file: settings.enroll_token_file.clone(),
            host_name: settings.host_name.clone().unwrap_or_else(machine_name),
        };
        // The authority is checked now, by whoever starts the agent, not at the first heartbeat.
        https::HttpsControl::new(&told.url, &told.ca, None)
            .with_context(|| format!("cannot use {} (--control-ca names it)", ca_path.display()))?;
        let instances_dir = settings.instances_dir();
        let reports = Reports::open(&path, || record_ids(&instances_dir))
            .with_context(|| format!("cannot use {} in {}", reports::FILE, path.display()))?;
        let mut state = State::default();
        if let Some(applied) = load_applied(&path)? {
            info!(generation = %applied.target.generation, "going by the control plane's last target");
            state.go_by(applied);
        }
        let begun = BegunBoots::open(&path, state.generation())
            .with_context(|| format!("cannot use {} in {}", begun::FILE, path.display()))?;
        Ok(Some(Arc::new(Self {
            told,
            dir: ControlDir::new(path),
            reports,
            begun,
            wake: Arc::default(),
            fetch_wake: Notify::new(),
            state: Mutex::new(state),
            applying: Mutex::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How instances boot.
    pub fn policy(&self) -> Policy {
        self.state().policy.clone()
    }

    /// What the control plane calls this host, and how many boots of `policy`'s canary were begun on it.
    pub fn standing(&self, policy: &Policy) -> (Option<String>, Begun) {
        let canary = policy.canary.as_ref();
        let begun = canary.and_then(|canary| Some(self.begun.begun(&canary.release, canary.bound?)));
        let host = self.state().host.as_ref().map(|host| host.as_str().to_owned());
        (host, begun.unwrap_or_default())
    }

    /// Begins a boot of `policy`'s canary: it is counted, on disk, where the canary has a bound. Blocking.
    pub fn begin_canary(&self, policy: &Policy) -> Result<(), BeginError> {
        let Some(canary) = &policy.canary else {
            return Ok(());
        };
        match canary.bound {
            Some(bound) => self.begun.begin(&canary.release, bound),
            None => Ok(()),
        }
    }

    /// Whether a rollout is under way, as far as the target shows it: then somebody waits for what boots here say.
    pub fn is_watched(&self) -> bool {
        let state = self.state();
        state
            .target()
            .is_some_and(|target| target.canary.is_some() || !target.prefetch.is_empty())
    }

    /// Whether the host takes no new instances.
    pub fn is_draining(&self) -> bool {
        self.state().applied.as_ref().is_some_and(|applied| applied.drain)
    }

    /// The way back that the control plane knows, and everything that its target names.
    pub fn named(&self) -> BTreeSet<ReleaseId> {
        let state = self.state();
        let target = state.target();
        target
            .map(apply::wanted)
            .unwrap_or_default()
            .into_iter()
            .cloned()
            .collect()
    }

    /// The generation that the host goes by, and whether the control plane was reached.
    pub fn glance(&self) -> (Generation, bool) {
        let state = self.state();
        (state.generation(), state.connected)
    }

    /// Counts the boots of records that are on disk. Blocking.
    pub fn count_boots<'a>(&self, records: impl IntoIterator<Item = &'a Instance>) {
        let boots: Vec<Boot> = records.into_iter().filter_map(boot_of).collect();
        match self.reports.count(&boots) {
            Ok(noted) => self.wake.noted(noted),
            Err(error) => {
                error!("a boot cannot be noted for the control plane yet: {error}");
                self.wake.soon.notify_one();
            }
        }
    }

    /// Forgets instances whose records are gone. Blocking.
    pub fn forget_records(&self, instances_dir: &Path) {
        // Synced before they are forgotten: a record that came back with a crash would be counted again.
        match std::fs::File::open(instances_dir).and_then(|dir| dir.sync_all()) {
            Ok(()) => self.reports.forget_all_but(&record_ids(instances_dir)),
            Err(error) => warn!("cannot sync {}: {error}", instances_dir.display()),
        }
    }

    /// Notes a failure for those who look.
    fn note_problem(&self, code: &str, detail: String, hint: Option<String>) {
        let mut state = self.state();
        let is_new = state.problem.as_ref().is_none_or(|known| known.detail != detail);
        if is_new {
            warn!(code, hint, "{detail}");
        }
        state.connected = false;
        state.problem = Some(ControlProblem {
            code: code.to_owned(),
            detail,
            hint,
            at: Timestamp::now(),
        });
    }

    fn view(&self, now: Timestamp) -> ControlLink {
        let unreported_boots = self.reports.unreported();
        let state = self.state();
        ControlLink {
            url: self.told.url.to_string(),
            host_name: self.told.host_name.clone(),
            host: state.host.clone(),
            connected: state.connected,
            last_contact: state.last_contact,
            problem: state.problem.clone(),
            generation: state.generation(),
            default: state.target().and_then(|target| target.default.clone()),
            certificate_not_after: state.not_after,
            window: state.describe_window(now),
            waiting: state.missing.clone(),
            draining: state.applied.as_ref().is_some_and(|applied| applied.drain),
            unreported_boots,
        }
    }

    /// Writes down what the host goes by, then goes by it. Blocking.
    fn go_by(&self, applied: Applied) -> std::io::Result<()> {
        durable::replace_json(self.dir.path(), TARGET_FILE, &applied)?;
        self.state().go_by(applied);
        Ok(())
    }

    /// Takes a target that was offered. `true`: it is what the host goes by from now on. Blocking.
    fn take_target(&self, target: Target) -> bool {
        let _one_at_a_time = self.applying.lock();
        let before = self.state().applied.clone();
        match apply::consider(before.as_ref().map(|applied| &applied.target), &target) {
            Offer::Apply => {}
            Offer::Known => return false,
            Offer::Older => {
                let own = before.unwrap_or_default().target.generation;
                let detail = format!(
                    "the control plane offers generation {}, which is older than {own} that this host goes by: not applied",
                    target.generation
                );
                self.note_problem("generation_older", detail, Some(self.anew_hint()));
                return false;
            }
            Offer::Contradiction => {
                let detail = format!(
                    "the control plane says something else of generation {} than before: not applied",
                    target.generation
                );
                self.note_problem("generation_contradiction", detail, Some(self.anew_hint()));
                return false;
            }
        }
        let generation = target.generation;
        let drain = before.is_some_and(|applied| applied.drain);
        match self.go_by(Applied { target, drain }) {
            Ok(()) => {
                info!(%generation, "going by a new target");
                true
            }
            Err(error) => {
                let detail =
                    format!("generation {generation} cannot be written to disk and is not applied: {error}");
                self.note_problem("disk_error", detail, None);
                false
            }
        }
    }

    fn anew_hint(&self) -> String {
        format!(
            "if the host is to begin anew with its control plane, or with another, stop the agent, remove {} and give it a \
             new enrollment token",
            self.dir.path().display()
        )
    }

    /// Takes no new instances, or takes them again. Blocking.
    fn set_draining(&self, drain: bool) {
        let _one_at_a_time = self.applying.lock();
        let before = self.state().applied.clone().unwrap_or_default();
        if before.drain == drain {
            return;
        }
        info!(drain, "told whether to take new instances");
        let applied = Applied { drain, ..before };
        if let Err(error) = self.go_by(applied.clone()) {
            warn!("cannot write down whether new instances are taken: {error}");
            self.state().go_by(applied);
        }
    }
}

impl Agent {
    pub(super) fn control(&self) -> Option<&Arc<Control>> {
        self.0.control.as_ref()
    }

    /// The link to the control plane, if there is one.
    pub fn control_link(&self) -> Option<ControlLink> {
        self.control().map(|control| control.view(Timestamp::now()))
    }

    /// Talks with the control plane until the agent ends.
    pub async fn follow_control(self) {
        if let Some(control) = self.control() {
            let side = HostSide::new(self.clone());
            tokio::join!(control.keep_linked(&side), self.fetch_what_is_wanted());
        }
    }

    /// Applies a target that was offered. `true`: it is applied. Blocking.
    fn apply_target(&self, target: Target) -> bool {
        let Some(control) = self.control() else {
            return false;
        };
        let applied = control.take_target(target);
        if applied {
            self.settle_default();
        }
        applied
    }

    /// Makes the target's default current, where it is on this host, and looks what is missing. Blocking.
    pub(super) fn settle_default(&self) {
        let Some(control) = self.control() else {
            return;
        };
        let policy = control.policy();
        let default = policy.default.filter(|default| !policy.blocked.contains(default));
        if let Some(default) = default
            && !matches!(self.0.cache.current_id(), Ok(Some(current)) if current == default)
            && let Ok(release) = self.0.cache.get(&default)
            && let Err(error) = self.make_current(&release)
        {
            warn!(release = %default, "cannot be made current: {error}");
        }
        self.look_what_is_missing();
        control.fetch_wake.notify_one();
    }
}

/// What a record says of a boot that is over, well or not.
fn boot_of(record: &Instance) -> Option<Boot> {
    let report = record.boot.as_ref()?;
    Some(Boot {
        instance: record.id.clone(),
        release: report.release.clone(),
        began_at: record.created_at,
        outcome: report.outcome,
        ready_ms: report.ready_ms(),
        is_canary: record.release_reason == Reason::Canary.as_str(),
    })
}

/// The instances that have a record, or may have one.
fn record_ids(instances_dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(instances_dir).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}

/// A target that cannot be read is no reason to go by none: it might be an older one next.
fn load_applied(dir: &Path) -> anyhow::Result<Option<Applied>> {
    let path = dir.join(TARGET_FILE);
    match read_bounded(&path, TARGET_BYTES_MAX) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
            let path = path.display();
            format!(
                "cannot read {path}, the target that this host goes by; remove it to take any target again"
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// What the machine calls itself.
fn machine_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() {
        "unnamed".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests;
