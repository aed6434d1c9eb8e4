//! The directory of built kernels, drawn in the parent module.
//!
//! Invariant: a directory without `.partial` in its name is complete. Whoever holds a [`Slot`] is the only one that
//! builds this kernel, on this machine.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use plfm_release::{KernelVersion, Sha256Digest};
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use super::{KernelError, KernelRecord};
use crate::progress::{Phase, Progress, phase};

const IMAGE: &str = "vmlinux";
const CONFIG: &str = "config";
const INPUTS: &str = "inputs.json";

/// A kernel as the cache keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub version: KernelVersion,
    pub image: Vec<u8>,
    pub config: Vec<u8>,
}

/// `inputs.json`.
#[derive(Serialize, Deserialize)]
struct Index {
    inputs: KernelRecord,
    version: KernelVersion,
    image_sha256: Sha256Digest,
    config_sha256: Sha256Digest,
}

/// What the cache has of a kernel.
pub(super) enum Lookup {
    Absent,
    /// Something is there, and it is not what was stored.
    Damaged,
    Whole(Entry),
}

pub(super) struct Cache {
    root: PathBuf,
}

/// The place of one kernel, locked.
pub(super) struct Slot {
    directory: PathBuf,
    partial: PathBuf,
    log: PathBuf,
    _lock: File,
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> KernelError + use<'a> {
    move |source| KernelError::Cache {
        action,
        path: path.to_owned(),
        source,
    }
}

impl Cache {
    pub fn open(root: &Path) -> Result<Self, KernelError> {
        fs::create_dir_all(root).map_err(failed("create the kernel cache", root))?;
        let root = root
            .canonicalize()
            .map_err(failed("find the kernel cache", root))?;
        if root.to_string_lossy().contains([' ', '\t', ':']) {
            return Err(KernelError::CachePath { path: root });
        }
        Ok(Self { root })
    }

    /// Takes the place of one kernel; waits while another process has it.
    pub fn lock(self, digest: Sha256Digest, progress: &mut dyn Progress) -> Result<Slot, KernelError> {
        let path = |suffix: &str| self.root.join(format!("{digest}{suffix}"));
        let lock_path = path(".lock");
        let failed = || failed("lock", &lock_path);
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&lock_path)
            .map_err(failed())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                phase(progress, Phase::AwaitKernelLock, |_| {
                    lock.lock().map_err(failed())
                })?;
            }
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
        }
        // The compilers inherit the lock: should this process be killed, they work on in the partial directory for a
        // while, and until the last of them has ended nobody else may build there.
        rustix::io::fcntl_setfd(&lock, FdFlags::empty()).map_err(|error| failed()(error.into()))?;
        Ok(Slot {
            directory: path(""),
            partial: path(".partial"),
            log: path(".log"),
            _lock: lock,
        })
    }
}

impl Slot {
    /// The log of builds of this kernel.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Reads the kernel, and checks that it is the one that was stored.
    pub fn load(&self, record: &KernelRecord) -> Result<Lookup, KernelError> {
        let read = |name: &str| {
            let path = self.directory.join(name);
            match fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed("read", &path)(error)),
            }
        };
        if !self.directory.is_dir() {
            return Ok(Lookup::Absent);
        }
        let (Some(index), Some(image), Some(config)) = (read(INPUTS)?, read(IMAGE)?, read(CONFIG)?) else {
            return Ok(Lookup::Damaged);
        };
        let Ok(index) = serde_json::from_slice::<Index>(&index) else {
            return Ok(Lookup::Damaged);
        };
        let whole = index.inputs == *record
            && index.image_sha256 == Sha256Digest::of(&image)
            && index.config_sha256 == Sha256Digest::of(&config);
        Ok(if whole {
            Lookup::Whole(Entry {
                version: index.version,
                image,
                config,
            })
        } else {
            Lookup::Damaged
        })
    }

    /// An empty directory to build in, and an empty log.
    pub fn begin(&self) -> Result<PathBuf, KernelError> {
        remove(&self.partial)?;
        let source = self.partial.join("source");
        fs::create_dir_all(&source).map_err(failed("create", &source))?;
        File::create(&self.log).map_err(failed("create", &self.log))?;
        Ok(source)
    }

    /// Puts a kernel in its place: written and synced beside it, then renamed.
    pub fn store(&self, record: &KernelRecord, entry: &Entry) -> Result<(), KernelError> {
        let index = Index {
            inputs: record.clone(),
            version: entry.version.clone(),
            image_sha256: Sha256Digest::of(&entry.image),
            config_sha256: Sha256Digest::of(&entry.config),
        };
        let index = serde_json::to_vec_pretty(&index).unwrap_or_default();
        let staged = self.partial.join("kernel");
        fs::create_dir(&staged).map_err(failed("create", &staged))?;
        for (name, content) in [(IMAGE, &entry.image), (CONFIG, &entry.config), (INPUTS, &index)] {
            let path = staged.join(name);
            let written = File::create(&path).and_then(|mut file| {
                file.write_all(content)?;
                file.sync_all()
            });
            written.map_err(failed("write", &path))?;
        }
        remove(&self.directory)?;
        fs::rename(&staged, &self.directory).map_err(failed("move into place", &self.directory))?;
        let parent = self.directory.parent().unwrap_or(Path::new("/"));
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(failed("sync", parent))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // The unpacked source is more than a gigabyte; a failed build has its log. What can't be removed now is
        // removed by the next build.
        let _ = fs::remove_dir_all(&self.partial);
    }
}

fn remove(path: &Path) -> Result<(), KernelError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Event;

    fn record() -> KernelRecord {
        KernelRecord {
            recipe: 1,
            source_sha256: Sha256Digest::of(b"source"),
            options_sha256: Sha256Digest::of(b"options"),
            tools: Default::default(),
        }
    }

    fn slot(root: &Path) -> Slot {
        Cache::open(root)
            .unwrap()
            .lock(record().digest(), &mut |_: Event<'_>| ())
            .unwrap()
    }

    fn stored(root: &Path) -> (Slot, Entry) {
        let slot = slot(root);
        slot.begin().unwrap();
        let entry = Entry {
            version: "6.1.1".parse().unwrap(),
            image: b"image".into(),
            config: b"config".into(),
        };
        slot.store(&record(), &entry).unwrap();
        (slot, entry)
    }

    #[test]
    fn a_cache_in_which_no_kernel_compiles_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Cache::open(&dir.path().join("my cache")).err().unwrap();
        assert!(matches!(error, KernelError::CachePath { .. }), "{error}");
    }

    #[test]
    fn a_stored_kernel_is_found_whole() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(
            slot(root.path()).load(&record()).unwrap(),
            Lookup::Absent
        ));
        let (slot, entry) = stored(root.path());
        let Lookup::Whole(found) = slot.load(&record()).unwrap() else {
            panic!("not whole")
        };
        assert_eq!(found, entry);
    }

    #[test]
    fn a_kernel_with_any_changed_or_missing_file_is_damaged() {
        for name in [IMAGE, CONFIG, INPUTS] {
            let root = tempfile::tempdir().unwrap();
            let (slot, _) = stored(root.path());
            let path = slot.directory.join(name);
            fs::write(&path, b"other").unwrap();
            assert!(
                matches!(slot.load(&record()).unwrap(), Lookup::Damaged),
                "{name} changed"
            );
            fs::remove_file(&path).unwrap();
            assert!(
                matches!(slot.load(&record()).unwrap(), Lookup::Damaged),
                "{name} missing"
            );
        }
    }

    #[test]
    fn a_killed_build_leaves_nothing_that_counts() {
        let root = tempfile::tempdir().unwrap();
        let first = slot(root.path());
        let source = first.begin().unwrap();
        fs::write(source.join("x"), b"half").unwrap();
        assert!(matches!(first.load(&record()).unwrap(), Lookup::Absent));
        assert!(fs::read_dir(first.begin().unwrap()).unwrap().next().is_none());
    }

    #[test]
    fn a_killed_builders_compilers_keep_the_place() {
        let root = tempfile::tempdir().unwrap();
        let first = slot(root.path());
        let lock = root.path().join(format!("{}.lock", record().digest()));
        let mut compiler = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        drop(first);
        let other = File::open(&lock).unwrap();
        let while_it_runs = other.try_lock();
        compiler.kill().unwrap();
        compiler.wait().unwrap();
        assert!(matches!(while_it_runs, Err(TryLockError::WouldBlock)));
        other.lock().unwrap();
    }

    #[test]
    fn the_second_builder_waits_for_the_first() {
        let root = tempfile::tempdir().unwrap();
        let first = slot(root.path());
        let path = root.path().to_owned();
        let (sender, waiting) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || {
            let mut tell = |event: Event<'_>| {
                if event == Event::Started(Phase::AwaitKernelLock) {
                    sender.send(()).unwrap();
                }
            };
            let slot = Cache::open(&path)
                .unwrap()
                .lock(record().digest(), &mut tell)
                .unwrap();
            matches!(slot.load(&record()).unwrap(), Lookup::Whole(_))
        });
        waiting.recv().unwrap();
        first.begin().unwrap();
        let entry = Entry {
            version: "6.1.1".parse().unwrap(),
            image: b"i".into(),
            config: b"c".into(),
        };
        first.store(&record(), &entry).unwrap();
        drop(first);
        assert!(
            second.join().unwrap(),
            "the second builder did not find the first one's kernel"
        );
    }
}
