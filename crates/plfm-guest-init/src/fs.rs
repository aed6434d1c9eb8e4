//! Paths in the customer's file system, which is not to be trusted: links are not followed where we make or
//! mount something, and files are read with a bound.

use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// Largest file that is read whole (passwd, group), in bytes.
const READ_BYTES_MAX: u64 = 1024 * 1024;
const DIRECTORY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a directory as a place to stand on.
pub fn open_dir(path: &str) -> rustix::io::Result<OwnedFd> {
    open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens the directory `path` under `root`, making what is missing (mode 0755) and following no link.
///
/// `replace` says what to do where something that is not a directory is in the way: take it away (in the overlay,
/// never in the image), or fail.
pub fn create_dir(root: impl AsFd, path: &str, replace: Replace) -> rustix::io::Result<OwnedFd> {
    let mut here = openat(root, ".", DIRECTORY, Mode::empty())?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        here = match openat(&here, name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => make_dir(&here, name)?,
            Err(Errno::NOTDIR | Errno::LOOP) if replace == Replace::Allowed => {
                unlinkat(&here, name, AtFlags::empty())?;
                make_dir(&here, name)?
            }
            other => other?,
        };
    }
    Ok(here)
}

/// Whether [`create_dir`] may take away what is in its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    Allowed,
    Forbidden,
}

fn make_dir(parent: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    openat(parent, name, DIRECTORY, Mode::empty())
}

/// Writes `content` as `name` in `dir`, whole or not at all, in place of whatever is there, link or file.
pub fn replace_file(
    dir: impl AsFd,
    name: &str,
    content: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> std::io::Result<()> {
    use std::io::Write as _;
    let dir = dir.as_fd();
    let temporary = format!(".{name}.plfm");
    match unlinkat(dir, temporary.as_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(openat(
        dir,
        temporary.as_str(),
        flags,
        Mode::from_raw_mode(0o600),
    )?);
    file.write_all(content)?;
    if let Some((uid, gid)) = owner {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    file.sync_all()?;
    renameat(dir, temporary.as_str(), dir, name)?;
    Ok(())
}

/// Reads a regular file of the image whole. A FIFO, a device or a huge file is refused, not waited for.
pub fn read_small(path: &str) -> std::io::Result<String> {
    let fd = open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::empty(),
    )?;
    let stat = rustix::fs::fstat(&fd)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd)
        .take(READ_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > READ_BYTES_MAX {
        return Err(Errno::FBIG.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Deletes everything under `dir` that is on the same file system: the initramfs, before it is covered.
pub fn delete_contents(dir: &OwnedFd) -> rustix::io::Result<()> {
    let device = rustix::fs::fstat(dir)?.st_dev;
    delete_below(dir, device, 0)
}

/// Deepest directory of an initramfs that is deleted; ours has three levels.
const DELETE_DEPTH_MAX: usize = 16;

fn delete_below(dir: &OwnedFd, device: u64, depth: usize) -> rustix::io::Result<()> {
    if depth > DELETE_DEPTH_MAX {
        return Ok(());
    }
    let readable = openat(
        dir,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    for entry in rustix::fs::Dir::new(readable)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_dev != device {
            continue;
        }
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
            let below = openat(dir, name, DIRECTORY, Mode::empty())?;
            delete_below(&below, device, depth + 1)?;
            // A directory that something is mounted in stays.
            let _ = unlinkat(dir, name, AtFlags::REMOVEDIR);
        } else {
            unlinkat(dir, name, AtFlags::empty())?;
        }
    }
    Ok(())
}
