//! What boots tell about a release, minute by minute, host by host.
//!
//! The caller passes on what hosts report, as it comes. Two things happen to it here, and nowhere else:
//!
//! - **Attribution.** The customer's own failures, and boots that were stopped before they were ready, count for nothing.
//! - **Votes.** In one round a host's boots of the candidate weigh as much as `votes` boots; of the baseline, in one minute.
//!   What is more is scaled down, successes and failures alike, so that no host has more to say than another.
//!
//! Invariant: what is counted depends on what each host reported in which order, not on the order among hosts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

/// How long a round is. Long enough that few hosts vote twice while the share is small, short enough that a fault which
/// begins late still meets votes.
pub const ROUND_MINUTES: i64 = 30;

/// How long hosts take to go by a new target: those that miss it hear of it with their next heartbeat.
const SETTLED_AFTER: SignedDuration = SignedDuration::from_secs(30);
/// Failures of a host from which on it may be set apart.
const SUSPECT_FAILURES: f64 = 3.0;

/// A minute, counted since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(pub i64);

impl Minute {
    /// The one that a moment is in.
    pub fn of(at: Timestamp) -> Self {
        Self(at.as_second().div_euclid(60))
    }

    /// Its beginning.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_second(self.0.saturating_mul(60)).unwrap_or(Timestamp::MIN)
    }

    /// Its end.
    pub fn end(self) -> Timestamp {
        let second = self.0.saturating_add(1).saturating_mul(60);
        Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
    }
}

/// Whether an event means something for the boots from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// It does.
    Set,
    /// It does not.
    Unset,
}

impl From<bool> for Mark {
    fn from(is_set: bool) -> Self {
        if is_set { Self::Set } else { Self::Unset }
    }
}

/// What an event means for the boots from then on: kept with the event, for who takes the boots in once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Hosts have their votes anew.
    pub round: Mark,
    /// The share of new instances is another.
    pub unsettled: Mark,
}

/// The caller's number for a host, the same for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub u32);

/// Which of the two releases that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The one that is rolled out.
    Candidate,
    /// The one that new instances boot otherwise.
    Baseline,
}

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "they mean what they mean in boot reports")]
pub enum Ending {
    Ready,
    /// Ready, and slower than nearly all boots before the rollout.
    ReadyLate,
    Failed,
    HandshakeTimeout,
    VmmFailed,
    ProtocolMismatch,
    KernelPanic,
    CustomerFailure,
    Cancelled,
}

/// Boots and what became of them. Parts of boots are what scaling leaves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// All that count.
    pub boots: f64,
    /// Of these, those that failed.
    pub failures: f64,
    /// Of the failures, those where no hello came.
    pub timeouts: f64,
    /// Of those that became ready, the slow ones.
    pub late: f64,
}

impl Tally {
    /// `count` boots that ended in one way.
    pub fn of(ending: Ending, count: u32) -> Self {
        let boots = f64::from(count);
        let good = Self {
            boots,
            ..Self::default()
        };
        match ending {
            Ending::Ready => good,
            Ending::ReadyLate => Self { late: boots, ..good },
            Ending::HandshakeTimeout => Self {
                failures: boots,
                timeouts: boots,
                ..good
            },
            Ending::Failed | Ending::VmmFailed | Ending::ProtocolMismatch | Ending::KernelPanic => Self {
                failures: boots,
                ..good
            },
            Ending::CustomerFailure | Ending::Cancelled => Self::default(),
        }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            boots: self.boots + other.boots,
            failures: self.failures + other.failures,
            timeouts: self.timeouts + other.timeouts,
            late: self.late + other.late,
        }
    }

    /// Without the failures of another, and the boots that they were.
    pub fn without_failures_of(self, other: Self) -> Self {
        Self {
            boots: (self.boots - other.failures).max(0.0),
            failures: (self.failures - other.failures).max(0.0),
            timeouts: (self.timeouts - other.timeouts).max(0.0),
            late: self.late,
        }
    }

    fn scaled_to(self, boots: f64) -> Self {
        if self.boots <= boots {
            return self;
        }
        let share = boots / self.boots;
        Self {
            boots,
            failures: self.failures * share,
            timeouts: self.timeouts * share,
            late: self.late * share,
        }
    }

    /// The share that failed; 0 of nothing.
    pub fn failure_rate(self) -> f64 {
        if self.boots > 0.0 {
            self.failures / self.boots
        } else {
            0.0
        }
    }
}

/// A minute of both releases.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pair {
    /// The one that is rolled out.
    pub candidate: Tally,
    /// The other.
    pub baseline: Tally,
}

impl Pair {
    pub(super) fn side_mut(&mut self, side: Side) -> &mut Tally {
        match side {
            Side::Candidate => &mut self.candidate,
            Side::Baseline => &mut self.baseline,
        }
    }
}

/// What one host reported.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostRecord {
    /// All of it, unscaled.
    pub all: Pair,
    /// Its failures as they were counted.
    pub counted: Vec<(Minute, Side, Tally)>,
    /// All of these together.
    counted_all: Pair,
    /// As what it stands among the suspects, if it does.
    suspected: Option<u64>,
    /// When the round of its last vote on the candidate began, and what it has used of it.
    voted: (i64, f64),
    /// The minute of its last vote on the baseline, and what it has used of it.
    voted_baseline: (i64, f64),
}

/// What hosts reported of the two releases, since some time before the rollout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcomes {
    votes: f64,
    rounds: Vec<Minute>,
    minutes: BTreeMap<Minute, Pair>,
    /// Minutes in which the share was not the same from beginning to end.
    unsettled: BTreeSet<Minute>,
    /// Boots of both releases, whether or not they had a vote.
    volume: BTreeMap<Minute, f64>,
    hosts_count: u32,
    /// Looked up, never gone through: its order is nobody's.
    hosts: HashMap<Host, HostRecord>,
    /// Hosts with failures of the candidate that count, and the minute of the last of them. Looked up only, too.
    failing: HashMap<Host, Minute>,
    /// How many hosts had the last of these in a minute.
    failing_last: BTreeMap<Minute, u32>,
    /// Hosts with so many failures that they may be set apart, by how many they are: of the candidate or of the baseline,
    /// whichever are more.
    suspects: BTreeSet<(u64, Host)>,
    spread: Pair,
}

impl Outcomes {
    /// Of `hosts` hosts with `votes` votes each.
    pub fn new(hosts: u32, votes: u32) -> Self {
        Self {
            votes: f64::from(votes.max(1)),
            hosts_count: hosts,
            ..Self::default()
        }
    }

    /// Votes for the hosts of a fleet: one each where there are enough hosts for a sample, else as many as it takes.
    pub fn votes(hosts: u32, sample: u32) -> u32 {
        sample.saturating_mul(4).div_ceil(hosts.max(1)).max(1)
    }

    /// From this minute on every host has its votes anew, and so every [`ROUND_MINUTES`] after it: a wave has begun.
    pub fn begin_round(&mut self, at: Minute) {
        if self.rounds.last().is_none_or(|last| *last < at) {
            self.rounds.push(at);
        }
    }

    /// What an event means for the boots from now on.
    pub fn mark(&mut self, marks: Marks, at: Timestamp) {
        if marks.round == Mark::Set {
            self.begin_round(Minute::of(at));
        }
        if marks.unsettled == Mark::Set {
            let last = at.saturating_add(SETTLED_AFTER).unwrap_or(at);
            self.unsettled
                .extend((Minute::of(at).0..=Minute::of(last).0).map(Minute));
        }
    }

    /// Takes in what a host reported: `count` boots of one release that began in one minute and ended in one way.
    pub fn record(&mut self, host: Host, side: Side, minute: Minute, ending: Ending, count: u32) {
        let tally = Tally::of(ending, count);
        let round = self.round_of(minute).0;
        let votes = self.votes;
        let record = self.hosts.entry(host).or_default();
        let all = record.all.side_mut(side);
        *all = all.plus(tally);
        *self.volume.entry(minute).or_default() += tally.boots;
        record.suspect(host, &mut self.suspects);
        let left = record.votes_left(side, minute, round, votes);
        let counted = tally.scaled_to(left);
        if counted.boots <= 0.0 {
            return;
        }
        record.vote(side, minute, round, counted.boots);
        if counted.failures > 0.0 {
            record.counted.push((minute, side, counted));
            let all = record.counted_all.side_mut(side);
            *all = all.plus(counted);
            if side == Side::Candidate {
                self.fail(host, minute);
            }
        }
        self.add(side, minute, counted);
    }

    fn fail(&mut self, host: Host, minute: Minute) {
        let before = self.failing.get(&host).copied();
        if before.is_some_and(|before| minute <= before) {
            return;
        }
        self.failing.insert(host, minute);
        *self.failing_last.entry(minute).or_default() += 1;
        if let Some(count) = before.and_then(|before| self.failing_last.get_mut(&before)) {
            *count -= 1;
        }
    }

    /// Takes in good boots of many hosts at once, evenly spread and each within its host's votes.
    pub fn record_spread(&mut self, side: Side, minute: Minute, all: Tally, counted: Tally) {
        let spread = self.spread.side_mut(side);
        *spread = spread.plus(all);
        *self.volume.entry(minute).or_default() += all.boots;
        self.add(side, minute, counted);
    }

    fn add(&mut self, side: Side, minute: Minute, tally: Tally) {
        let sum = self.minutes.entry(minute).or_default().side_mut(side);
        *sum = sum.plus(tally);
    }

    /// Whether the share was the same in all of a minute. Where it was not, one release's boots are from another part of the
    /// minute than the other's, and what happened in that part alone would look like the release's doing.
    pub(super) fn is_settled(&self, minute: Minute) -> bool {
        !self.unsettled.contains(&minute)
    }

    /// When the round began that a minute is in.
    pub(super) fn round_of(&self, minute: Minute) -> Minute {
        let before = self.rounds.partition_point(|begin| *begin <= minute);
        let begin = before.checked_sub(1).and_then(|last| self.rounds.get(last));
        begin.map_or(Minute(0), |begin| {
            Minute(minute.0 - (minute.0 - begin.0) % ROUND_MINUTES)
        })
    }

    /// The minutes of which anything was heard.
    pub fn minutes(&self) -> &BTreeMap<Minute, Pair> {
        &self.minutes
    }

    /// Boots of both releases in each minute, whether or not they had a vote.
    pub(super) fn volume(&self) -> &BTreeMap<Minute, f64> {
        &self.volume
    }

    /// How many hosts there are.
    pub fn hosts_count(&self) -> u32 {
        self.hosts_count
    }

    /// Hosts come and go.
    pub fn set_hosts_count(&mut self, hosts: u32) {
        self.hosts_count = hosts;
    }

    /// What a host reported.
    pub fn host(&self, host: Host) -> Option<&HostRecord> {
        self.hosts.get(&host)
    }

    /// How many hosts have failures of the candidate that count and that began in a minute or later.
    pub(super) fn failing_since(&self, since: Minute) -> u32 {
        self.failing_last.range(since..).map(|(_, hosts)| hosts).sum()
    }

    /// Whether a host is one of those that [`Self::failing_since`] counts.
    pub(super) fn has_failed_since(&self, host: Host, since: Minute) -> bool {
        self.failing.get(&host).is_some_and(|last| *last >= since)
    }

    /// Hosts with at least so many failures of one of the releases, in the order of their numbers, and what they reported.
    pub(super) fn suspects(&self, failures: u64) -> impl Iterator<Item = (Host, &HostRecord)> {
        let most = self.suspects.range((failures, Host(0))..);
        let mut suspects: Vec<Host> = most.map(|(_, host)| *host).collect();
        suspects.sort_unstable();
        suspects
            .into_iter()
            .filter_map(|host| Some((host, self.hosts.get(&host)?)))
    }

    /// What was reported of many at once, per host.
    pub(super) fn spread_per_host(&self, side: Side) -> f64 {
        let spread = match side {
            Side::Candidate => self.spread.candidate,
            Side::Baseline => self.spread.baseline,
        };
        spread.boots / f64::from(self.hosts_count.max(1))
    }
}

impl HostRecord {
    /// Its failures as they were counted, together.
    pub(super) fn counted(&self, side: Side) -> Tally {
        match side {
            Side::Candidate => self.counted_all.candidate,
            Side::Baseline => self.counted_all.baseline,
        }
    }

    /// Keeps its place among the suspects.
    fn suspect(&mut self, host: Host, suspects: &mut BTreeSet<(u64, Host)>) {
        let failures = (self.all.candidate.failures, self.all.baseline.failures);
        let most = failures.0.max(failures.1) as u64;
        if failures.0 + failures.1 < SUSPECT_FAILURES || self.suspected == Some(most) {
            return;
        }
        if let Some(before) = self.suspected.replace(most) {
            suspects.remove(&(before, host));
        }
        suspects.insert((most, host));
    }

    fn votes_left(&self, side: Side, minute: Minute, round: i64, votes: f64) -> f64 {
        let used = match side {
            // What belongs to an earlier round comes too late to be heard.
            Side::Candidate if round < self.voted.0 => votes,
            Side::Candidate if round == self.voted.0 => self.voted.1,
            Side::Baseline if minute.0 == self.voted_baseline.0 => self.voted_baseline.1,
            Side::Candidate | Side::Baseline => 0.0,
        };
        votes - used
    }

    fn vote(&mut self, side: Side, minute: Minute, round: i64, boots: f64) {
        match side {
            Side::Candidate if round == self.voted.0 => self.voted.1 += boots,
            Side::Candidate => self.voted = (round, boots),
            Side::Baseline if minute.0 == self.voted_baseline.0 => self.voted_baseline.1 += boots,
            Side::Baseline => self.voted_baseline = (minute.0, boots),
        }
    }
}
