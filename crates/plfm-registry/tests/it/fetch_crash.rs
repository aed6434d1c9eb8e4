//! A power cut after each file operation of an update and of a fetch, and a full disk at each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use plfm_registry::fetch::{Files, HostFiles, RegistryClient};
use plfm_release::ArtifactKind;

use crate::fetch_fixtures::*;
use crate::fetch_server::Server;

/// What the disk has for certain.
#[derive(Debug, Default, Clone)]
struct Durable {
    /// Names that were synced with their directory, and which file they mean.
    names: BTreeMap<PathBuf, u64>,
    /// Content that was synced, by inode.
    contents: BTreeMap<u64, Vec<u8>>,
}

/// The host's file system, which fails from the given operation on and remembers what was synced.
#[derive(Debug)]
struct FailingFiles {
    good: usize,
    error: io::ErrorKind,
    changes: Mutex<usize>,
    durable: Mutex<Durable>,
}

impl FailingFiles {
    fn new(good: usize, error: io::ErrorKind, durable: Durable) -> Arc<Self> {
        let (changes, durable) = (Mutex::new(0), Mutex::new(durable));
        Arc::new(Self {
            good,
            error,
            changes,
            durable,
        })
    }

    fn change(&self) -> io::Result<()> {
        let mut changes = self.changes.lock().unwrap();
        *changes += 1;
        if *changes > self.good {
            Err(self.error.into())
        } else {
            Ok(())
        }
    }

    fn failed(&self) -> bool {
        *self.changes.lock().unwrap() > self.good
    }
}

impl Files for FailingFiles {
    fn open(&self, path: &Path) -> io::Result<File> {
        self.change()?;
        HostFiles.open(path)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.change()?;
        HostFiles.truncate(file, length)
    }

    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let result = self.change();
        // A write that is cut is cut in its middle.
        let bytes = if result.is_ok() {
            bytes
        } else {
            &bytes[..bytes.len() / 2]
        };
        HostFiles.append(file, bytes).and(result)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.change()?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        let (inode, content) = (file.metadata()?.ino(), fs::read(path)?);
        self.durable.lock().unwrap().contents.insert(inode, content);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        HostFiles.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change()?;
        let mut durable = self.durable.lock().unwrap();
        durable.names.retain(|path, _| path.parent() != Some(dir));
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.metadata()?.is_file() {
                durable.names.insert(entry.path(), entry.metadata()?.ino());
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        HostFiles.remove(path)
    }
}

/// Brings the directory into the state that a power cut leaves: names as they were last synced, or as they are, and of
/// each file what was synced of it, or half of nothing.
fn cut_power(state: &Path, durable: &Durable, names_survive: bool) {
    let folders = [state.to_owned(), state.join("downloads")];
    for entry in folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
    {
        let entry = entry.unwrap();
        if !entry.metadata().unwrap().is_file() || entry.file_name() == ".lock" {
            continue;
        }
        let content = durable
            .contents
            .get(&entry.metadata().unwrap().ino())
            .cloned()
            .unwrap_or_default();
        fs::remove_file(entry.path()).unwrap();
        if names_survive {
            fs::write(entry.path(), content).unwrap();
        }
    }
    if !names_survive {
        for (path, inode) in &durable.names {
            let content = durable.contents.get(inode).cloned().unwrap_or_default();
            fs::write(path, content).unwrap();
        }
    }
}

/// Tries every operation of a second update and a fetch. Gives the number of operations that there were.
async fn try_each_operation(error: io::ErrorKind, after: impl Fn(&Path, &Durable)) -> usize {
    let (old, release) = (Repository::with(&[&Release::new("a")]), Release::new("b"));
    let mut new = old.clone();
    new.add_keyring(2, &keyring(), &ROOT_KEYS[..2]);
    new.add_release(&release);
    new.publish();
    for good in 0..500 {
        let (dir, server) = (directory(), Server::serve(&old.files).await);
        let settings = || settings(vec![server.mirror()], dir.path());
        let first = FailingFiles::new(usize::MAX, error, Durable::default());
        let client = RegistryClient::open_on(first.clone(), settings(), old.root()).unwrap();
        client.update(now()).await.unwrap();
        drop(client);
        let durable = first.durable.lock().unwrap().clone();

        server.publish(&new.files);
        let files = FailingFiles::new(good, error, durable);
        let client = RegistryClient::open_on(files.clone(), settings(), old.root()).unwrap();
        let outcome = async {
            let view = client.update(now()).await.ok()?;
            fetch(&client, &view, &release.id()).await.ok()
        };
        let fetched = outcome.await;
        assert_eq!(fetched.is_none(), files.failed(), "operation {good}");
        assert_nothing_unverified(dir.path());
        let finished = fetched.is_some();
        // The files of a fetched release go with it.
        std::mem::forget(fetched);
        drop(client);
        after(&dir.path().join("state"), &files.durable.lock().unwrap());

        // The old state or the new one, whole; and the host goes on by itself.
        let client = RegistryClient::open(settings(), old.root()).unwrap();
        let version = client.trusted_keyring().unwrap().version();
        assert!(
            version == 1 || version == 2,
            "operation {good}: keyring {version}"
        );
        let view = client.update(now()).await.unwrap();
        let fetched = fetch(&client, &view, &release.id()).await.unwrap();
        assert_eq!(content(&fetched, ArtifactKind::Kernel), release.kernel);
        // And it goes back behind neither.
        server.publish(&old.files);
        assert_eq!(
            client.update(now()).await.unwrap_err().code(),
            "registry_rollback"
        );
        if finished {
            return good;
        }
    }
    panic!("there is no end of operations");
}

#[tokio::test]
async fn a_power_cut_after_any_operation_leaves_the_old_state_or_the_new() {
    let lost = try_each_operation(io::ErrorKind::Other, |dir, durable| {
        cut_power(dir, durable, false)
    })
    .await;
    assert!(lost > 20, "only {lost} operations");
}

#[tokio::test]
async fn a_power_cut_that_keeps_names_and_loses_content_leaves_the_old_state_or_the_new() {
    try_each_operation(io::ErrorKind::Other, |dir, durable| cut_power(dir, durable, true)).await;
}

#[tokio::test]
async fn a_full_disk_at_any_operation_breaks_nothing() {
    try_each_operation(io::ErrorKind::StorageFull, |_, _| {}).await;
}
