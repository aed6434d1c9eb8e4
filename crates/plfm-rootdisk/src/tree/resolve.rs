//! Where in the tree a path leads: symbolic links on the way are followed, and `/` is the tree's root for them.

use std::collections::VecDeque;

use crate::limits::{DEPTH_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, SYMLINK_HOPS_MAX};
use crate::tree::{InodeKind, Name, Node, Tree};

/// A path that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathRefusal {
    #[error("is absolute")]
    Absolute,
    #[error("has a \"..\" in it")]
    Parent,
    #[error("has a NUL in it")]
    Nul,
    #[error("has more than {PATH_BYTES_MAX} bytes")]
    Long,
    #[error("has a name of more than {NAME_BYTES_MAX} bytes")]
    LongName,
    #[error("lies more than {DEPTH_MAX} directories deep")]
    Deep,
    #[error("leads through more than {SYMLINK_HOPS_MAX} symbolic links")]
    Hops,
    #[error("lies below something that is not a directory")]
    NotDirectory,
}

/// The names of a layer's path. `.` and empty names are dropped; no names mean the root, also where it is `/`.
pub(crate) fn split_path(path: &[u8]) -> Result<Vec<Name>, PathRefusal> {
    if path.len() > PATH_BYTES_MAX {
        return Err(PathRefusal::Long);
    }
    if path.contains(&0) {
        return Err(PathRefusal::Nul);
    }
    let names: Vec<&[u8]> = names(path).collect();
    if names.contains(&&b".."[..]) {
        return Err(PathRefusal::Parent);
    }
    if path.starts_with(b"/") && !names.is_empty() {
        return Err(PathRefusal::Absolute);
    }
    if names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(PathRefusal::LongName);
    }
    Ok(names.into_iter().map(<[u8]>::to_vec).collect())
}

fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

impl Tree {
    /// The real path of a directory that entries are put into. Names that do not exist are taken as they are: they
    /// will be made.
    pub(crate) fn resolve_directory(&self, path: &[Name]) -> Result<Vec<Name>, PathRefusal> {
        let mut ahead: VecDeque<Name> = path.iter().cloned().collect();
        let mut real: Vec<Name> = Vec::new();
        let mut hops = 0;
        while let Some(name) = ahead.pop_front() {
            if name == b".." {
                real.pop();
                continue;
            }
            let node = self
                .directory(&real)
                .and_then(|directory| directory.children.get(&name));
            match node.map(|child| &child.node) {
                None | Some(Node::Directory(_)) => real.push(name),
                Some(Node::Inode(id)) => {
                    let Some(InodeKind::Symlink(target)) = self.inode(*id).map(|inode| &inode.kind) else {
                        return Err(PathRefusal::NotDirectory);
                    };
                    hops += 1;
                    if hops > SYMLINK_HOPS_MAX {
                        return Err(PathRefusal::Hops);
                    }
                    if target.starts_with(b"/") {
                        real.clear();
                    }
                    names(target)
                        .rev()
                        .for_each(|name| ahead.push_front(name.to_vec()));
                }
            }
            check_extent(&real)?;
        }
        Ok(real)
    }
}

fn check_extent(real: &[Name]) -> Result<(), PathRefusal> {
    if real.len() > DEPTH_MAX {
        return Err(PathRefusal::Deep);
    }
    if real.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(PathRefusal::LongName);
    }
    if real
        .iter()
        .map(|name| name.len().saturating_add(1))
        .sum::<usize>()
        > PATH_BYTES_MAX
    {
        return Err(PathRefusal::Long);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_double_slashes_vanish_and_the_root_has_no_names() {
        assert_eq!(split_path(b"./a//b/.").unwrap(), [b"a".to_vec(), b"b".to_vec()]);
        for root in [&b"."[..], b"./", b"/", b"//.", b""] {
            assert!(split_path(root).unwrap().is_empty(), "{root:?}");
        }
    }

    #[test]
    fn absolute_and_parent_paths_are_refused() {
        assert_eq!(split_path(b"/etc/passwd"), Err(PathRefusal::Absolute));
        for path in [&b".."[..], b"../x", b"a/../../x", b"a/..", b"/../x"] {
            assert_eq!(split_path(path), Err(PathRefusal::Parent), "{path:?}");
        }
    }
}
