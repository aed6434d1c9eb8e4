//! Which commit a checkout is at.

use std::path::Path;
use std::process::Command;

use crate::Epoch;
use crate::command;

/// A checkout's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The commit.
    pub git_sha: String,
    /// Whether files differ from the commit, or are not in it.
    pub dirty: bool,
    /// When the commit was made; `None` for a time that no epoch has.
    pub committed: Option<Epoch>,
}

/// The state of the checkout at `dir`; `None` where there is no repository, no commit, or no git.
pub fn find_checkout(dir: &Path) -> Option<Checkout> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        // Set by a hook or an alias, these would make git look elsewhere.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        command
            .arg("-C")
            .arg(dir)
            .args(args)
            .env("LC_ALL", "C")
            .env("GIT_OPTIONAL_LOCKS", "0");
        command::output(&mut command).ok()
    };
    let git_sha = git(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])?;
    let dirty = !git(&["status", "--porcelain"])?.is_empty();
    let committed = git(&["log", "-1", "--format=%ct"])?.parse().ok();
    Some(Checkout {
        git_sha,
        dirty,
        committed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(dir)
            .args(["-c", "user.name=x", "-c", "user.email=x@example.invalid"])
            .args(args);
        command
            .env("GIT_COMMITTER_DATE", "1766000000 +0200")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        assert!(command.output().unwrap().status.success(), "{args:?}");
    }

    #[test]
    fn a_checkout_has_a_commit_a_time_and_says_when_it_is_dirty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find_checkout(dir.path()), None);
        git(dir.path(), &["init", "--quiet"]);
        assert_eq!(find_checkout(dir.path()), None);
        git(dir.path(), &["commit", "--quiet", "--allow-empty", "--message=x"]);
        let clean = find_checkout(dir.path()).unwrap();
        assert_eq!((clean.git_sha.len(), clean.dirty), (40, false));
        assert_eq!(clean.committed, Some(Epoch::from_seconds(1_766_000_000)));
        std::fs::write(dir.path().join("new"), "").unwrap();
        assert!(find_checkout(dir.path()).unwrap().dirty);
    }
}
