use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn release(n: usize) -> ReleaseId {
    format!("6.1.{n}-a+guestinit-1.0.0-a").parse().unwrap()
}

fn boot(instance: usize, second: i64) -> Boot {
    Boot {
        instance: format!("I{instance}"),
        release: release(instance % 3),
        began_at: Timestamp::from_second(second).unwrap(),
        outcome: if instance.is_multiple_of(5) {
            BootOutcome::Failed
        } else {
            BootOutcome::Ready
        },
        ready_ms: (!instance.is_multiple_of(5)).then_some(100 + u64::try_from(instance % 2).unwrap() * 40),
        is_canary: false,
    }
}

fn journal() -> Journal {
    Journal::begin("S1".to_owned(), BTreeSet::new())
}

fn sum(tallies: &[OutcomeCount]) -> u32 {
    tallies.iter().map(|tally| tally.count).sum()
}

#[test]
fn boots_are_tallied_by_release_minute_and_outcome() {
    let mut journal = journal();
    // 1, 4 and 13 booted release 1 in the first minute, 7 in the second; 4 took 100 ms, the others 140.
    for (instance, second) in [(1, 0), (4, 59), (13, 30), (7, 60)] {
        assert!(journal.count(&boot(instance, second)));
    }
    assert!(journal.freeze(None));
    let outcomes = &journal.frozen().unwrap().outcomes;
    let seen: Vec<_> = outcomes
        .iter()
        .map(|tally| {
            (
                tally.window.as_second(),
                tally.count,
                tally.ready_ms_total,
                tally.ready_ms_max,
            )
        })
        .collect();
    assert_eq!(seen, [(0, 3, 380, 140), (60, 1, 140, 140)]);
    let buckets: Vec<_> = outcomes.iter().map(|tally| &tally.ready_ms_buckets).collect();
    assert_eq!(
        buckets,
        [
            &vec![(ready_bucket(100), 1), (ready_bucket(140), 2)],
            &vec![(ready_bucket(140), 1)]
        ]
    );
}

#[test]
fn a_heartbeat_has_so_many_buckets_and_the_rest_waits() {
    let mut journal = journal();
    let mut instance = 0..;
    for minute in 0..60 {
        for bucket in 0..120 {
            journal.count(&Boot {
                ready_ms: Some(plfm_api::control::ready_bucket_begin_ms(bucket)),
                instance: format!("I{}", instance.next().unwrap()),
                ..boot(1, minute * 60)
            });
        }
    }
    let mut boots = 0;
    for sequence in 1..=2 {
        journal.freeze(None);
        let outcomes = &journal.frozen().unwrap().outcomes;
        assert!(!outcomes.is_empty());
        let buckets: usize = outcomes.iter().map(|tally| tally.ready_ms_buckets.len()).sum();
        assert!(buckets <= BUCKETS_MAX, "{buckets}");
        assert!(serde_json::to_vec(outcomes).unwrap().len() < 192 * 1024);
        boots += sum(outcomes);
        journal.acknowledge(sequence);
    }
    assert_eq!(boots, 60 * 120);
    assert!(!journal.has_more());
}

#[test]
fn a_journal_of_an_agent_that_knew_no_buckets_is_gone_on_with() {
    let text = r#"{"stream": "S1", "sequence": 3, "counted": ["I1"], "tallies": [{"release": "6.1.1-a+guestinit-1.0.0-a",
        "window": "1970-01-01T00:00:00Z", "outcome": "ready", "count": 1, "ready_ms_total": 70, "ready_ms_max": 70}]}"#;
    let mut journal: Journal = serde_json::from_str(text).unwrap();
    assert!(journal.count(&boot(4, 0)));
    assert_eq!(journal.tallies.len(), 1);
    assert_eq!(journal.tallies[0].count, 2);
    assert_eq!(journal.tallies[0].ready_ms_buckets, [(ready_bucket(100), 1)]);
}

#[test]
fn a_boot_that_is_counted_again_changes_nothing() {
    let mut journal = journal();
    assert!(journal.count(&boot(1, 0)));
    let before = journal.clone();
    assert!(!journal.count(&boot(1, 0)));
    assert_eq!(journal, before);
}

#[test]
fn news_do_not_change_once_they_have_a_number() {
    let mut journal = journal();
    journal.count(&boot(1, 0));
    assert!(journal.freeze(None));
    let news = journal.frozen().unwrap().clone();
    journal.count(&boot(4, 0));
    assert!(!journal.freeze(None));
    assert_eq!(journal.frozen(), Some(&news));
    assert_eq!(journal.acknowledge(0), Acknowledged::Nothing);
    assert_eq!(journal.acknowledge(1), Acknowledged::Taken(Box::new(news)));
    assert_eq!(journal.acknowledge(1), Acknowledged::Nothing);
    assert!(journal.freeze(None));
    assert_eq!(sum(&journal.frozen().unwrap().outcomes), 1);
    assert_eq!(journal.sequence(), 2);
}

#[test]
fn no_news_take_no_number() {
    let mut journal = journal();
    assert!(!journal.freeze(None));
    assert_eq!(journal.sequence(), 0);
}

#[test]
fn a_heartbeat_takes_so_many_tallies_and_the_rest_waits() {
    let mut journal = journal();
    for minute in 0..i64::try_from(OUTCOMES_MAX).unwrap() + 10 {
        journal.count(&boot(usize::try_from(minute).unwrap() * 15 + 1, minute * 60));
    }
    journal.freeze(None);
    assert_eq!(journal.frozen().unwrap().outcomes.len(), OUTCOMES_MAX);
    assert!(journal.has_more());
    journal.acknowledge(1);
    journal.freeze(None);
    assert_eq!(journal.frozen().unwrap().outcomes.len(), 10);
    assert!(!journal.has_more());
}

#[test]
fn a_journal_that_nobody_reads_for_months_stays_small_and_loses_no_boot() {
    let mut journal = journal();
    let boots: usize = 60_000;
    for n in 0..boots {
        // One every two minutes.
        journal.count(&boot(n, i64::try_from(n).unwrap() * 120));
        journal.counted.clear();
    }
    assert!(journal.tallies.len() <= TALLIES_MAX);
    assert_eq!(journal.unreported(), u64::try_from(boots).unwrap());
}

#[test]
fn an_old_copy_of_a_journal_begins_another_stream_and_tells_nothing_twice() {
    let mut journal = journal();
    journal.count(&boot(1, 0));
    let mut old = journal.clone();
    journal.freeze(None);
    journal.acknowledge(1);
    // The host's disk is put back to what it was.
    assert_eq!(old.acknowledge(1), Acknowledged::Ahead);
    assert_eq!(old.restart("S2".to_owned()), 1);
    assert_eq!((old.stream(), old.sequence(), old.unreported()), ("S2", 0, 0));
    assert!(!old.count(&boot(1, 0)));
}

#[test]
fn it_is_the_same_after_it_was_written_and_read() {
    let mut journal = journal();
    for n in 0..20 {
        journal.count(&boot(n, 0));
    }
    journal.freeze(None);
    journal.count(&boot(30, 0));
    let text = serde_json::to_string(&journal).unwrap();
    assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal);
}

/// The control plane's rule: of each stream, what has a higher number than the last that was taken.
#[derive(Default)]
struct Server {
    last: BTreeMap<String, u64>,
    counts: BTreeMap<(ReleaseId, BootOutcome), u64>,
    /// Times to ready, by release and bucket.
    ready: BTreeMap<(ReleaseId, u8), u64>,
    ready_ms_total: u64,
}

impl Server {
    fn receive(&mut self, sent: &Sent) -> u64 {
        let last = self.last.entry(sent.stream.clone()).or_default();
        if sent.sequence > *last {
            *last = sent.sequence;
            for tally in &sent.outcomes {
                *self
                    .counts
                    .entry((tally.release.clone(), tally.outcome))
                    .or_default() += u64::from(tally.count);
                self.ready_ms_total += tally.ready_ms_total;
                assert!(tally.ready_ms_buckets.is_sorted_by(|(a, _), (b, _)| a < b));
                for (bucket, count) in &tally.ready_ms_buckets {
                    assert!(*count > 0, "an empty bucket");
                    *self.ready.entry((tally.release.clone(), *bucket)).or_default() += u64::from(*count);
                }
            }
        }
        *last
    }
}

#[derive(Debug, Clone)]
struct Sent {
    stream: String,
    sequence: u64,
    outcomes: Vec<OutcomeCount>,
}

/// An agent with a disk. A crash drops what is in memory; the disk has the last write that was done.
struct Host {
    memory: Journal,
    reports_on_disk: Journal,
    /// The records of instances whose boots are known: durable before they are counted.
    records: BTreeMap<usize, Boot>,
    booted: usize,
}

/// When the agent dies during a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    Never,
    BeforeTheWrite,
    AfterTheWrite,
}

impl Host {
    fn new() -> Self {
        Self {
            memory: journal(),
            reports_on_disk: journal(),
            records: BTreeMap::new(),
            booted: 0,
        }
    }

    /// `false`: it died.
    fn write(&mut self, crash: Crash) -> bool {
        if crash == Crash::BeforeTheWrite {
            self.restart();
            return false;
        }
        self.reports_on_disk = self.memory.clone();
        if crash == Crash::AfterTheWrite {
            self.restart();
            return false;
        }
        true
    }

    fn boot(&mut self, second: i64, record: Crash, count: Crash) {
        let boot = boot(self.booted, second);
        if record == Crash::BeforeTheWrite {
            return self.restart();
        }
        self.records.insert(self.booted, boot.clone());
        self.booted += 1;
        if record == Crash::AfterTheWrite {
            return self.restart();
        }
        if self.memory.count(&boot) {
            self.write(count);
        }
    }

    /// What an agent does at its start.
    fn restart(&mut self) {
        self.memory = self.reports_on_disk.clone();
        let mut changed = false;
        for boot in self.records.values() {
            changed |= self.memory.count(boot);
        }
        if changed {
            self.reports_on_disk = self.memory.clone();
        }
    }

    /// A heartbeat on its way, if the agent lives to send it.
    fn send(&mut self, crash: Crash) -> Option<Sent> {
        if self.memory.freeze(None) && !self.write(crash) {
            return None;
        }
        let news = self.memory.frozen();
        Some(Sent {
            stream: self.memory.stream().to_owned(),
            sequence: self.memory.sequence(),
            outcomes: news.map(|news| news.outcomes.clone()).unwrap_or_default(),
        })
    }

    /// The record of an instance goes, then what is remembered of it.
    fn delete(&mut self, instance: usize, crash: Crash) {
        let Some(instance) = self
            .records
            .keys()
            .nth(instance % self.records.len().max(1))
            .copied()
        else {
            return;
        };
        self.records.remove(&instance);
        if crash == Crash::BeforeTheWrite {
            return self.restart();
        }
        self.memory.forget(|id| id == format!("I{instance}"));
        self.write(crash);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Boot {
        record: Crash,
        count: Crash,
    },
    Send {
        crash: Crash,
    },
    /// A message of those on their way arrives; it may do so again later.
    Arrive {
        which: usize,
        again: bool,
    },
    Lose {
        which: usize,
    },
    /// An answer arrives, perhaps an old one.
    Answer {
        which: usize,
        again: bool,
    },
    LoseAnswer {
        which: usize,
    },
    Delete {
        which: usize,
        crash: Crash,
    },
    Kill,
}

fn crashes() -> impl Strategy<Value = Crash> {
    prop_oneof![
        6 => Just(Crash::Never),
        1 => Just(Crash::BeforeTheWrite),
        1 => Just(Crash::AfterTheWrite),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = || 0..8_usize;
    let step = prop_oneof![
        4 => (crashes(), crashes()).prop_map(|(record, count)| Step::Boot { record, count }),
        4 => crashes().prop_map(|crash| Step::Send { crash }),
        4 => (which(), any::<bool>()).prop_map(|(which, again)| Step::Arrive { which, again }),
        1 => which().prop_map(|which| Step::Lose { which }),
        4 => (which(), any::<bool>()).prop_map(|(which, again)| Step::Answer { which, again }),
        1 => which().prop_map(|which| Step::LoseAnswer { which }),
        1 => (which(), crashes()).prop_map(|(which, crash)| Step::Delete { which, crash }),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 0..120)
}

/// Takes or copies one of what is on its way.
fn take<T: Clone>(way: &mut Vec<T>, which: usize, again: bool) -> Option<T> {
    if way.is_empty() {
        return None;
    }
    let place = which % way.len();
    Some(if again {
        way[place].clone()
    } else {
        way.remove(place)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    /// Loss, repetition, any order, and a death at every write: in the end each boot is counted once.
    #[test]
    fn every_boot_that_is_on_disk_is_counted_once(steps in steps()) {
        let (mut host, mut server) = (Host::new(), Server::default());
        let (mut requests, mut answers): (Vec<Sent>, Vec<(String, u64)>) = (Vec::new(), Vec::new());
        for (second, step) in steps.into_iter().enumerate() {
            match step {
                Step::Boot { record, count } => host.boot(i64::try_from(second).unwrap(), record, count),
                Step::Send { crash } => requests.extend(host.send(crash)),
                Step::Arrive { which, again } => if let Some(sent) = take(&mut requests, which, again) {
                    answers.push((sent.stream.clone(), server.receive(&sent)));
                },
                Step::Lose { which } => { take(&mut requests, which, false); }
                Step::Answer { which, again } => if let Some((stream, last)) = take(&mut answers, which, again) {
                    prop_assert_eq!(stream.as_str(), host.memory.stream());
                    prop_assert_ne!(host.memory.acknowledge(last), Acknowledged::Ahead);
                },
                Step::LoseAnswer { which } => { take(&mut answers, which, false); }
                Step::Delete { which, crash } => host.delete(which, crash),
                Step::Kill => host.restart(),
            }
            // Never more than there were.
            let counted: u64 = server.counts.values().sum();
            prop_assert!(counted <= u64::try_from(host.booted).unwrap());
        }
        // The network heals.
        for _ in 0..3 {
            let sent = host.send(Crash::Never).unwrap();
            let last = server.receive(&sent);
            host.memory.acknowledge(last);
        }
        let (mut expected, mut ready, mut ready_ms_total) = (BTreeMap::new(), BTreeMap::new(), 0);
        for n in 0..host.booted {
            let Boot { release, outcome, ready_ms, .. } = boot(n, 0);
            if let Some(ms) = ready_ms {
                *ready.entry((release.clone(), ready_bucket(ms))).or_insert(0) += 1;
                ready_ms_total += ms;
            }
            *expected.entry((release, outcome)).or_insert(0) += 1;
        }
        prop_assert_eq!(server.counts, expected);
        prop_assert_eq!((server.ready, server.ready_ms_total), (ready, ready_ms_total));
        prop_assert_eq!(host.memory.unreported(), 0);
    }
}
