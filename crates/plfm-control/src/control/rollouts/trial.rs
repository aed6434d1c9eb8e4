//! What hosts reported of the two releases of a rollout, in memory.
//!
//! Invariant: it is made from the reports and the rollout's facts alone. It is made anew when a replica takes the desk, and
//! when it becomes known what a slow boot is.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use plfm_api::BootOutcome;
use plfm_api::control::{HostId, READY_BUCKETS};
use plfm_rollout::rollout::{Ending, Host, Minute, Outcomes, Reckoned, Side};

use crate::fleet::RolloutRecord;
use crate::store::{BootReport, ReportCursor, Store, StoreError};

/// How long before the rollout boots tell what is usual.
pub const BEFORE: SignedDuration = SignedDuration::from_hours(2);
/// Boots below which nobody can say what is slow.
const BOOTS_FEW: u64 = 100;

/// The reports of one rollout, as far as they were read.
pub struct Trial {
    rollout: String,
    late_above: Option<u8>,
    cursor: ReportCursor,
    marks: usize,
    outcomes: Outcomes,
    reckoned: Reckoned,
    hosts: HashMap<HostId, Host>,
    names: Vec<HostId>,
    /// Boots of the old release before the rollout, by the time that they took.
    usual: Vec<u64>,
}

impl Trial {
    /// Of a rollout, with nothing read yet.
    pub fn new(record: &RolloutRecord) -> Self {
        Self {
            rollout: record.id.clone(),
            late_above: record.late_above,
            cursor: ReportCursor::default(),
            marks: 0,
            outcomes: Outcomes::new(0, record.votes),
            reckoned: Reckoned::default(),
            hosts: HashMap::new(),
            names: Vec::new(),
            usual: vec![0; usize::from(READY_BUCKETS)],
        }
    }

    /// Whether it is of this rollout as it stands.
    pub fn is_of(&self, record: &RolloutRecord) -> bool {
        self.rollout == record.id && self.late_above == record.late_above
    }

    /// Takes in what came since, with what the rollout's events mean for it. How many reports there were.
    pub async fn read(&mut self, record: &RolloutRecord, store: &Store) -> Result<usize, StoreError> {
        for (at, marks) in record.marks.iter().skip(self.marks) {
            self.outcomes.mark(*marks, *at);
        }
        self.marks = record.marks.len();
        let mut read = 0;
        loop {
            let (reports, more) = store.read_reports(&mut self.cursor).await?;
            read += reports.len();
            for report in &reports {
                self.take(record, report);
            }
            if !more {
                return Ok(read);
            }
            tokio::task::yield_now().await;
        }
    }

    fn take(&mut self, record: &RolloutRecord, report: &BootReport) {
        let side = match &report.release {
            release if *release == record.at.candidate => Side::Candidate,
            release if *release == record.at.baseline => Side::Baseline,
            _ => return,
        };
        let begin = record.started_at.checked_sub(BEFORE).unwrap_or(Timestamp::MIN);
        if report.minute < begin {
            return;
        }
        if let Some(usual) = report
            .bucket
            .filter(|_| side == Side::Baseline && report.minute < record.started_at)
            .and_then(|bucket| self.usual.get_mut(usize::from(bucket)))
        {
            *usual = usual.saturating_add(report.count.into());
        }
        let host = self.host(&report.host);
        let ending = ending(report.outcome, report.bucket, self.late_above);
        self.outcomes
            .record(host, side, Minute::of(report.minute), ending, report.count);
    }

    fn host(&mut self, id: &HostId) -> Host {
        if let Some(host) = self.hosts.get(id) {
            return *host;
        }
        let host = Host(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.hosts.insert(id.clone(), host);
        self.names.push(id.clone());
        host
    }

    /// Which host a number is.
    pub fn name(&self, host: Host) -> Option<&HostId> {
        self.names.get(usize::try_from(host.0).ok()?)
    }

    /// The boots, for so many hosts, and what was reckoned of them before.
    pub fn outcomes(&mut self, hosts: u32) -> (&Outcomes, &mut Reckoned) {
        self.outcomes.set_hosts_count(hosts);
        (&self.outcomes, &mut self.reckoned)
    }

    /// The bucket that 99 of 100 of the old release's boots were not slower than before the rollout; none of a few boots.
    pub fn usually_within(&self) -> Option<u8> {
        let all: u64 = self.usual.iter().sum();
        if all < BOOTS_FEW {
            return None;
        }
        let within = (all * 99).div_ceil(100);
        let mut so_far = 0;
        let found = self.usual.iter().position(|boots| {
            so_far += boots;
            so_far >= within
        });
        found.and_then(|bucket| u8::try_from(bucket).ok())
    }
}

fn ending(outcome: BootOutcome, bucket: Option<u8>, late_above: Option<u8>) -> Ending {
    match outcome {
        BootOutcome::Ready => match (bucket, late_above) {
            (Some(bucket), Some(usual)) if bucket > usual => Ending::ReadyLate,
            _ => Ending::Ready,
        },
        BootOutcome::Failed => Ending::Failed,
        BootOutcome::HandshakeTimeout => Ending::HandshakeTimeout,
        BootOutcome::VmmFailed => Ending::VmmFailed,
        BootOutcome::ProtocolMismatch => Ending::ProtocolMismatch,
        BootOutcome::KernelPanic => Ending::KernelPanic,
        BootOutcome::CustomerFailure => Ending::CustomerFailure,
        BootOutcome::Cancelled => Ending::Cancelled,
    }
}
