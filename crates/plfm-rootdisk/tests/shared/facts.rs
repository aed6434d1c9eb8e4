//! What is true of the files of a tree, wherever it was read.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::images::sha256;

/// Everything that a root disk has to keep of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: (i64, i64),
    pub rdev: u64,
    pub links: u64,
    pub target: Vec<u8>,
    pub digest: String,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub type Tree = BTreeMap<Vec<u8>, Facts>;

/// Reads a directory of the host.
pub fn of_directory(root: &Path) -> Tree {
    let mut tree = Tree::new();
    walk(root, b"", &mut tree);
    tree
}

fn walk(path: &Path, name: &[u8], tree: &mut Tree) {
    let metadata = path.symlink_metadata().unwrap();
    let kind = metadata.mode() & 0o170_000;
    let is_dir = kind == 0o040_000;
    let target = if kind == 0o120_000 {
        std::fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()
    } else {
        vec![]
    };
    let digest = if kind == 0o100_000 {
        digest_of(path, metadata.len())
    } else {
        String::new()
    };
    let facts = Facts {
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        // Directories have the size that their file system gives them.
        size: if is_dir { 0 } else { metadata.len() },
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        rdev: metadata.rdev(),
        links: if is_dir { 0 } else { metadata.nlink() },
        target,
        digest,
        xattrs: xattrs(path),
    };
    tree.insert(name.to_vec(), facts);
    if is_dir {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let child = [name, b"/", entry.file_name().as_bytes()].concat();
            walk(&entry.path(), &child, tree);
        }
    }
}

/// Of large files, which are sparse ones here, only the ends are read.
fn digest_of(path: &Path, size: u64) -> String {
    if size <= 64 << 20 {
        return sha256(&std::fs::read(path).unwrap());
    }
    let file = std::fs::File::open(path).unwrap();
    let mut ends = vec![0; 2 << 20];
    let (first, last) = ends.split_at_mut(1 << 20);
    std::os::unix::fs::FileExt::read_exact_at(&file, first, 0).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, last, size - (1 << 20)).unwrap();
    sha256(&ends)
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut names = vec![0u8; 64 << 10];
    let size = rustix::fs::llistxattr(path.as_c_str(), names.as_mut_slice()).unwrap_or(0);
    let names = names[..size].split(|b| *b == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0u8; 64 << 10];
            let name_text = CString::new(name).unwrap();
            let size =
                rustix::fs::lgetxattr(path.as_c_str(), name_text.as_c_str(), value.as_mut_slice()).unwrap();
            (name.to_vec(), value[..size].to_vec())
        })
        .collect()
}

/// What differs, one line each; `skips` says which paths' times are nobody's.
pub fn differences(ours: &Tree, theirs: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    let shown = |path: &[u8]| path.escape_ascii().to_string();
    for (path, facts) in ours {
        match theirs.get(path) {
            None => lines.push(format!("only ours: {}", shown(path))),
            Some(other) if other != facts => {
                lines.push(format!(
                    "{}:\n  ours   {facts:?}\n  theirs {other:?}",
                    shown(path)
                ));
            }
            Some(_) => {}
        }
    }
    lines.extend(
        theirs
            .keys()
            .filter(|path| !ours.contains_key(*path))
            .map(|path| format!("only theirs: {}", shown(path))),
    );
    lines
}
