//! A disk that fails on command.
//!
//! It passes every operation on to a real directory, counting those that change something. From a chosen one on it
//! can be dead, as after a power cut; then it can also forget what was not synced. What it forgets is the worst
//! that POSIX allows: every directory entry that was not synced with its folder, every content that was not synced
//! with its file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};

use plfm_cache::{Disk, FileFacts, Folder, HostDisk, Place};

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It fails, and so does everything after it.
    Death,
    /// It fails for want of space, and what comes after it does not.
    DiskFull,
    /// Looking at something fails, and changes do not: it is looks that are counted.
    Unreadable,
}

pub struct TestDisk {
    host: HostDisk,
    failure: Failure,
    /// The number of changes, or of looks, before the one that fails.
    good: usize,
    changes: AtomicUsize,
    looks: AtomicUsize,
    /// How much fits, in bytes of files.
    pub capacity_bytes: AtomicU64,
    durable: Mutex<Durable>,
    pub reads: AtomicUsize,
    pub bytes_read: AtomicU64,
    /// The file whose content cannot be read.
    pub bad_inode: AtomicU64,
    pub bytes_written: AtomicU64,
    /// What happens while a file is read, once.
    pub during_read: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// How far the file system's clock seems to be ahead.
    pub clock_ahead_ns: AtomicI64,
}

/// What is on the disk for good.
#[derive(Debug, Default, Clone)]
pub struct Durable {
    entries: BTreeMap<PathBuf, Entry>,
    contents: HashMap<u64, Vec<u8>>,
    /// Which file an inode is now. An inode's number is used again when its file is gone; these numbers are not.
    files: HashMap<u64, u64>,
    next_file: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File(u64),
    Link(PathBuf),
}

impl Durable {
    /// What is there is there for good.
    pub fn of(dir: &Path) -> Self {
        let mut durable = Self::default();
        for folder in Folder::ALL {
            for path in files_in(&dir.join(folder.path())) {
                let metadata = path.symlink_metadata().unwrap();
                if metadata.is_file() && !durable.files.contains_key(&metadata.ino()) {
                    let file = durable.new_file(metadata.ino());
                    durable.contents.insert(file, fs::read(&path).unwrap());
                }
            }
            durable.sync_folder(dir, folder);
        }
        durable
    }

    fn new_file(&mut self, inode: u64) -> u64 {
        self.next_file += 1;
        self.files.insert(inode, self.next_file);
        self.next_file
    }

    fn sync_folder(&mut self, dir: &Path, folder: Folder) {
        self.entries
            .retain(|path, _| path.parent() != Some(folder.path()));
        for path in files_in(&dir.join(folder.path())) {
            let metadata = path.symlink_metadata().unwrap();
            let entry = match fs::read_link(&path) {
                Ok(target) => Entry::Link(target),
                Err(_) => Entry::File(self.files[&metadata.ino()]),
            };
            self.entries
                .insert(path.strip_prefix(dir).unwrap().to_owned(), entry);
        }
    }

    /// The states that a power cut can leave of the directory as it is now: without anything that was not synced, and
    /// with one directory entry of that, as a file system may write them in any order. Of `.staging`, which nobody
    /// reads, only what was synced.
    pub fn after_power_cut(&self, dir: &Path) -> Vec<Self> {
        let mut now = self.clone();
        for folder in Folder::ALL {
            now.sync_folder(dir, folder);
        }
        let names: BTreeSet<_> = self.entries.keys().chain(now.entries.keys()).collect();
        let changed = names.into_iter().filter(|name| {
            !name.starts_with(".staging") && self.entries.get(*name) != now.entries.get(*name)
        });
        let surviving = |name: &PathBuf| {
            let mut durable = self.clone();
            match now.entries.get(name) {
                Some(entry) => durable.entries.insert(name.clone(), entry.clone()),
                None => durable.entries.remove(name),
            };
            durable
        };
        [self.clone()].into_iter().chain(changed.map(surviving)).collect()
    }

    /// Brings the directory into the state that survived.
    pub fn restore(&self, dir: &Path) {
        for folder in Folder::ALL {
            files_in(&dir.join(folder.path()))
                .iter()
                .for_each(|path| fs::remove_file(path).unwrap());
        }
        let mut first_names: HashMap<u64, PathBuf> = HashMap::new();
        for (name, entry) in &self.entries {
            let path = dir.join(name);
            match entry {
                Entry::Link(target) => symlink(target, path).unwrap(),
                Entry::File(file) => match first_names.get(file) {
                    Some(first) => fs::hard_link(first, path).unwrap(),
                    None => {
                        fs::write(&path, self.contents.get(file).map_or(&[][..], Vec::as_slice)).unwrap();
                        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
                        first_names.insert(*file, path);
                    }
                },
            }
        }
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| !path.is_dir() && !path.ends_with(".lock"))
        .collect()
}

impl TestDisk {
    /// A disk without a fault.
    pub fn new(dir: &Path) -> Self {
        Self::failing(dir, Failure::Death, usize::MAX)
    }

    /// A disk that fails after `good` changes.
    pub fn failing(dir: &Path, failure: Failure, good: usize) -> Self {
        let host = HostDisk::open(dir).unwrap();
        Self::continuing(host, failure, good, Durable::of(dir))
    }

    /// The disk that another process left, whatever of it is durable.
    pub fn continuing(host: HostDisk, failure: Failure, good: usize, durable: Durable) -> Self {
        Self {
            durable: Mutex::new(durable),
            host,
            failure,
            good,
            changes: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
            capacity_bytes: AtomicU64::new(u64::MAX),
            reads: AtomicUsize::new(0),
            bytes_read: AtomicU64::new(0),
            bad_inode: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            during_read: Mutex::new(None),
            clock_ahead_ns: AtomicI64::new(0),
        }
    }

    /// Whether the chosen operation was reached.
    pub fn failed(&self) -> bool {
        match self.failure {
            Failure::Death | Failure::DiskFull => self.changes.load(SeqCst) > self.good,
            Failure::Unreadable => self.looks.load(SeqCst) > self.good,
        }
    }

    /// What survives a power cut now.
    pub fn durable(&self) -> Durable {
        self.durable.lock().unwrap().clone()
    }

    pub fn alive(&self) -> io::Result<()> {
        if self.failed() && self.failure == Failure::Death {
            Err(io::Error::other("the power is cut"))
        } else {
            Ok(())
        }
    }

    fn change(&self) -> io::Result<()> {
        self.alive()?;
        let before = self.changes.fetch_add(1, SeqCst);
        match self.failure {
            Failure::Death | Failure::DiskFull if before != self.good => Ok(()),
            Failure::Death => Err(io::Error::other("the power is cut")),
            Failure::DiskFull => Err(io::ErrorKind::StorageFull.into()),
            Failure::Unreadable => Ok(()),
        }
    }

    fn look(&self) -> io::Result<()> {
        self.alive()?;
        let before = self.looks.fetch_add(1, SeqCst);
        if self.failure == Failure::Unreadable && before == self.good {
            return Err(broken());
        }
        Ok(())
    }

    /// What all files take, in bytes.
    fn used_bytes(&self) -> u64 {
        let folders = Folder::ALL.map(|folder| files_in(&self.host.dir().join(folder.path())));
        let sizes: HashMap<_, _> = folders
            .iter()
            .flatten()
            .map(|path| path.symlink_metadata().unwrap())
            .map(|metadata| (metadata.ino(), metadata.len()))
            .collect();
        sizes.values().sum()
    }
}

/// What a disk says of a bad sector.
pub fn broken() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

impl Disk for TestDisk {
    fn dir(&self) -> &Path {
        self.host.dir()
    }

    fn clock_ns(&self) -> i128 {
        self.host.clock_ns() + i128::from(self.clock_ahead_ns.load(SeqCst))
    }

    fn available_bytes(&self) -> io::Result<u64> {
        self.look()?;
        Ok(self.capacity_bytes.load(SeqCst).saturating_sub(self.used_bytes()))
    }

    fn open(&self, at: &Place) -> io::Result<File> {
        self.look()?;
        self.host.open(at)
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.look()?;
        self.reads.fetch_add(1, SeqCst);
        if file.metadata()?.ino() == self.bad_inode.load(SeqCst) {
            return Err(broken());
        }
        let read = self.host.read_at(file, buffer, offset);
        self.bytes_read
            .fetch_add(*read.as_ref().unwrap_or(&0) as u64, SeqCst);
        if let Some(happens) = self.during_read.lock().unwrap().take() {
            happens();
        }
        read
    }

    fn facts(&self, file: &File) -> io::Result<FileFacts> {
        self.look()?;
        self.host.facts(file)
    }

    fn facts_at(&self, at: &Place) -> io::Result<Option<FileFacts>> {
        self.look()?;
        self.host.facts_at(at)
    }

    fn read_link(&self, at: &Place) -> io::Result<OsString> {
        self.look()?;
        self.host.read_link(at)
    }

    fn list(&self, folder: Folder) -> io::Result<Vec<OsString>> {
        self.look()?;
        self.host.list(folder)
    }

    fn create(&self, at: &Place) -> io::Result<File> {
        self.change()?;
        let file = self.host.create(at)?;
        self.durable.lock().unwrap().new_file(file.metadata()?.ino());
        Ok(file)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        self.alive()?;
        let room = self.capacity_bytes.load(SeqCst).saturating_sub(self.used_bytes());
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let changed = self.change().and(if room < bytes.len() as u64 {
            Err(full)
        } else {
            Ok(())
        });
        // A write that is cut is cut in its middle.
        let bytes = if changed.is_ok() {
            bytes
        } else {
            &bytes[..bytes.len() / 2]
        };
        self.bytes_written.fetch_add(bytes.len() as u64, SeqCst);
        self.host.write(file, bytes).and(changed)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.change()?;
        // The descriptor is open for writing only.
        let content = fs::read(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let mut durable = self.durable.lock().unwrap();
        let id = durable.files[&file.metadata()?.ino()];
        durable.contents.insert(id, content);
        self.host.sync_file(file)
    }

    fn sync_folder(&self, folder: Folder) -> io::Result<()> {
        self.change()?;
        self.durable.lock().unwrap().sync_folder(self.host.dir(), folder);
        self.host.sync_folder(folder)
    }

    fn rename(&self, from: &Place, to: &Place) -> io::Result<()> {
        self.change()?;
        self.host.rename(from, to)
    }

    fn link(&self, existing: &Place, new: &Place) -> io::Result<()> {
        self.change()?;
        self.host.link(existing, new)
    }

    fn symlink(&self, target: &OsStr, at: &Place) -> io::Result<()> {
        self.change()?;
        self.host.symlink(target, at)
    }

    fn remove(&self, at: &Place) -> io::Result<()> {
        self.change()?;
        self.host.remove(at)
    }
}
