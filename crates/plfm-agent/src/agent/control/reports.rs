//! The journal on disk: nothing of it is sent that is not written.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plfm_api::control::HostStatus;
use tracing::warn;
use ulid::Ulid;

use super::journal::{Acknowledged, Boot, Journal, News};
use crate::agent::read_bounded;
use crate::durable;

/// The file, beside those of the host's identity.
pub const FILE: &str = "reports.json";
/// Largest file, in bytes: as many tallies as may wait, each below 3,100 with every bucket in use, and everything else.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where a journal is written, whole or not at all. Blocking.
pub trait Shelf: Send + Sync + 'static {
    /// Writes it; synced when it returns.
    fn store(&self, journal: &Journal) -> io::Result<()>;
}

/// A file.
#[derive(Debug)]
pub struct FileShelf {
    dir: PathBuf,
}

impl Shelf for FileShelf {
    fn store(&self, journal: &Journal) -> io::Result<()> {
        // On one line: it is written after each boot, and spread out its buckets alone take four lines each.
        durable::replace(&self.dir, FILE, &serde_json::to_vec(journal)?)
    }
}

/// What was noted, in the order of how much it matters when it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noted {
    /// Nothing that was not known.
    Nothing,
    /// Boots that can wait.
    News,
    /// Boots that somebody waits for.
    Urgent,
}

/// What a heartbeat has of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulletin {
    pub stream: String,
    pub sequence: u64,
    pub news: Option<News>,
}

/// The journal and its shelf. Cheap to clone.
pub struct Reports<S>(Arc<Kept<S>>);

struct Kept<S> {
    state: Mutex<State>,
    shelf: S,
}

struct State {
    journal: Journal,
    /// Whether the shelf has all that is in memory, but for acknowledgements.
    is_stored: bool,
}

impl<S> Clone for Reports<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Reports<FileShelf> {
    /// Goes on with the journal in `dir`. Without one that can be read it begins anew, and takes the boots of `records`
    /// as told: better a boot that is not counted than one that is counted twice. Blocking.
    pub fn open(dir: &Path, records: impl FnOnce() -> BTreeSet<String>) -> io::Result<Self> {
        let path = dir.join(FILE);
        let journal = match read_bounded(&path, FILE_BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice::<Journal>(&bytes)
                .inspect_err(|error| put_aside(&path, error))
                .ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let shelf = FileShelf { dir: dir.to_owned() };
        match journal {
            Some(journal) => Ok(Self::new(journal, shelf)),
            None => {
                let journal = Journal::begin(Ulid::generate().to_string(), records());
                shelf.store(&journal)?;
                Ok(Self::new(journal, shelf))
            }
        }
    }
}

fn put_aside(path: &Path, error: &serde_json::Error) {
    warn!(
        path = %path.display(),
        "what the control plane was not told yet cannot be read and is put aside as .unreadable; boots before now are not counted: {error}"
    );
    let _ = std::fs::rename(path, path.with_extension("json.unreadable"));
}

/// A name for a run of numbers that follows `last`: later in order too, whatever the clock says, as the control plane
/// forgets the earliest ones first.
fn stream_after(last: &str) -> String {
    let now = Ulid::generate();
    let later = last.parse().ok().and_then(|last: Ulid| last.increment().ok());
    later.map_or(now, |later| later.max(now)).to_string()
}

impl<S: Shelf> Reports<S> {
    /// A journal as it is on the shelf.
    pub fn new(journal: Journal, shelf: S) -> Self {
        Self(Arc::new(Kept {
            state: Mutex::new(State {
                journal,
                is_stored: true,
            }),
            shelf,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, state: &mut State) -> io::Result<()> {
        self.0.shelf.store(&state.journal)?;
        state.is_stored = true;
        Ok(())
    }

    /// Counts boots whose records are on disk, and says whether any was new. Where the write fails they are in memory, and with
    /// the next write on disk; an agent that ends before finds them in their records. Blocking.
    pub fn count<'a>(&self, boots: impl IntoIterator<Item = &'a Boot>) -> io::Result<Noted> {
        let mut state = self.state();
        let mut noted = Noted::Nothing;
        for boot in boots {
            if state.journal.count(boot) {
                noted = noted.max(if boot.is_urgent() {
                    Noted::Urgent
                } else {
                    Noted::News
                });
            }
        }
        if noted != Noted::Nothing {
            state.is_stored = false;
            self.store(&mut state)?;
        }
        Ok(noted)
    }

    /// What to send now: what is frozen, or what there is. On disk when this returns. Blocking.
    pub fn bulletin(&self, status: Option<&HostStatus>) -> io::Result<Bulletin> {
        let mut state = self.state();
        if state.journal.freeze(status) {
            state.is_stored = false;
        }
        if !state.is_stored {
            self.store(&mut state)?;
        }
        Ok(Bulletin {
            stream: state.journal.stream().to_owned(),
            sequence: state.journal.sequence(),
            news: state.journal.frozen().cloned(),
        })
    }

    /// Takes the number of an answer to what was sent of `stream`. Blocking.
    pub fn acknowledge(&self, stream: &str, sequence: u64) -> io::Result<Acknowledged> {
        let mut state = self.state();
        if state.journal.stream() != stream {
            return Ok(Acknowledged::Nothing);
        }
        let acknowledged = state.journal.acknowledge(sequence);
        if acknowledged == Acknowledged::Ahead {
            self.restart(&mut state)?;
        }
        Ok(acknowledged)
    }

    /// Gives up `stream`, of which the control plane takes nothing any more. Blocking.
    pub fn begin_another(&self, stream: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.journal.stream() == stream {
            self.restart(&mut state)?;
        }
        Ok(())
    }

    fn restart(&self, state: &mut State) -> io::Result<()> {
        let stream = stream_after(state.journal.stream());
        let lost = state.journal.restart(stream);
        warn!(
            boots = lost,
            "the control plane knows later reports than this host: its state was put back to an earlier one; \
             boots that may have been reported are not reported again"
        );
        state.is_stored = false;
        self.store(state)
    }

    /// Whether there is more to tell than what is frozen.
    pub fn has_more(&self) -> bool {
        self.state().journal.has_more()
    }

    /// Boots that are not acknowledged.
    pub fn unreported(&self) -> u64 {
        self.state().journal.unreported()
    }

    /// Forgets the instances that are not among `records` any more, whose removal is on disk. Written with the next news.
    pub fn forget_all_but(&self, records: &BTreeSet<String>) {
        let mut state = self.state();
        state.journal.forget(|instance| !records.contains(instance));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use jiff::Timestamp;
    use plfm_api::BootOutcome;

    use super::*;

    fn boot(instance: &str) -> Boot {
        Boot {
            instance: instance.to_owned(),
            release: "6.1.1-a+guestinit-1.0.0-a".parse().unwrap(),
            began_at: Timestamp::UNIX_EPOCH,
            outcome: BootOutcome::Ready,
            ready_ms: Some(5),
            is_canary: false,
        }
    }

    #[test]
    fn what_was_counted_is_there_after_a_restart_and_is_not_counted_again() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Reports::open(dir.path(), || BTreeSet::from(["old".to_owned()])).unwrap();
        let reports = open();
        let counted = reports.count([&boot("a"), &boot("b"), &boot("old")]);
        assert_eq!(counted.unwrap(), Noted::News);
        let sent = reports.bulletin(None).unwrap();
        drop(reports);
        let again = open();
        assert_eq!(again.count([&boot("a"), &boot("b")]).unwrap(), Noted::Nothing);
        assert_eq!(again.bulletin(None).unwrap(), sent);
        assert_eq!(again.unreported(), 2);
    }

    #[test]
    fn a_canarys_boot_and_any_failure_are_urgent_and_nothing_else_is() {
        let reports = Reports::new(
            Journal::begin("S".to_owned(), BTreeSet::new()),
            Full(Arc::default()),
        );
        let noted = |instance: &str, outcome, is_canary| {
            let boot = Boot {
                outcome,
                is_canary,
                ..boot(instance)
            };
            reports.count([&boot]).unwrap()
        };
        assert_eq!(noted("a", BootOutcome::Ready, false), Noted::News);
        assert_eq!(noted("b", BootOutcome::CustomerFailure, false), Noted::News);
        assert_eq!(noted("c", BootOutcome::KernelPanic, false), Noted::Urgent);
        assert_eq!(noted("d", BootOutcome::Ready, true), Noted::Urgent);
        assert_eq!(noted("e", BootOutcome::Cancelled, true), Noted::Urgent);
        assert_eq!(noted("e", BootOutcome::Cancelled, true), Noted::Nothing, "once");
    }

    #[test]
    fn a_journal_that_cannot_be_read_is_put_aside_and_counts_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        let reports = Reports::open(dir.path(), || BTreeSet::from(["a".to_owned()])).unwrap();
        assert_eq!(reports.count([&boot("a")]).unwrap(), Noted::Nothing);
        assert!(dir.path().join("reports.json.unreadable").exists());
    }

    #[test]
    fn instances_without_a_record_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let reports = Reports::open(dir.path(), BTreeSet::new).unwrap();
        reports.count([&boot("a"), &boot("b")]).unwrap();
        reports.forget_all_but(&BTreeSet::from(["b".to_owned()]));
        reports.bulletin(None).unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(!text.contains("\"a\"") && text.contains("\"b\""), "{text}");
    }

    #[test]
    fn a_stream_that_follows_another_is_later_whatever_the_clock_says() {
        let future = Ulid::from_parts(u64::MAX >> 16, 7).to_string();
        assert!(stream_after(&future) > future);
        assert!(stream_after("01ARZ3NDEKTSV4RRFFQ69G5FAV").as_str() > "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    }

    /// A disk that is full at times.
    struct Full(Arc<AtomicBool>);

    impl Shelf for Full {
        fn store(&self, _: &Journal) -> io::Result<()> {
            match self.0.load(Ordering::SeqCst) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }

    #[test]
    fn nothing_is_sent_that_is_not_on_disk() {
        let full = Arc::new(AtomicBool::new(true));
        let reports = Reports::new(
            Journal::begin("S".to_owned(), BTreeSet::new()),
            Full(full.clone()),
        );
        assert!(reports.count([&boot("a")]).is_err());
        assert!(reports.bulletin(None).is_err());
        assert!(reports.bulletin(None).is_err());
        full.store(false, Ordering::SeqCst);
        let bulletin = reports.bulletin(None).unwrap();
        assert_eq!(bulletin.news.unwrap().outcomes[0].count, 1);
    }
}
