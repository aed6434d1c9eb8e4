//! A reader of erofs, written from the format's description and sharing nothing with the writer: so that what is on a
//! disk is known without a kernel or root.

use std::collections::BTreeMap;
use std::path::Path;

use crate::facts::{Facts, Tree};
use crate::images::sha256;

struct Disk(Vec<u8>);

struct Inode {
    layout: u16,
    mode: u32,
    size: u64,
    u: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, i64),
    links: u64,
    /// Where what follows the attributes begins.
    after: usize,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Disk {
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.0[at..at + 2].try_into().unwrap())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn inode(&self, nid: u64) -> Inode {
        let at = nid as usize * 32;
        let format = self.u16(at);
        assert_eq!(format & 1, 1, "not an extended inode");
        assert!(at % 4096 <= 4096 - 64, "an inode crosses a block");
        let count = usize::from(self.u16(at + 2));
        let xattr_bytes = if count == 0 { 0 } else { 12 + 4 * (count - 1) };
        Inode {
            layout: format >> 1,
            mode: u32::from(self.u16(at + 4)),
            size: self.u64(at + 8),
            u: self.u32(at + 16),
            uid: self.u32(at + 24),
            gid: self.u32(at + 28),
            mtime: (self.u64(at + 32) as i64, i64::from(self.u32(at + 40))),
            links: u64::from(self.u32(at + 44)),
            after: at + 64 + xattr_bytes,
            xattrs: self.xattrs(at + 64, xattr_bytes),
        }
    }

    fn xattrs(&self, at: usize, bytes: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut place = at + 12;
        while place < at + bytes {
            let (name_bytes, value_bytes) = (usize::from(self.0[place]), usize::from(self.u16(place + 2)));
            let prefix: &[u8] = match self.0[place + 1] {
                1 => b"user.",
                2 => b"system.posix_acl_access",
                3 => b"system.posix_acl_default",
                4 => b"trusted.",
                6 => b"security.",
                other => panic!("attribute prefix {other}"),
            };
            let name = [prefix, &self.0[place + 4..place + 4 + name_bytes]].concat();
            let value = self.0[place + 4 + name_bytes..place + 4 + name_bytes + value_bytes].to_vec();
            found.insert(name, value);
            place += (4 + name_bytes + value_bytes).next_multiple_of(4);
        }
        found
    }

    /// The data; of a file with holes only its ends, as the other readers have it.
    fn data(&self, inode: &Inode) -> Vec<u8> {
        let size = inode.size as usize;
        let start = inode.u as usize * 4096;
        match inode.layout {
            0 => self.0[start..start + size].to_vec(),
            2 => {
                let tail = size % 4096;
                assert!(inode.after % 4096 + tail <= 4096, "a tail crosses a block");
                let whole = size - tail;
                let blocks = if whole == 0 {
                    &[][..]
                } else {
                    &self.0[start..start + whole]
                };
                [blocks, &self.0[inode.after..inode.after + tail]].concat()
            }
            4 if size <= 64 << 20 => self.chunked(inode, 0, size),
            4 => [
                self.chunked(inode, 0, 1 << 20),
                self.chunked(inode, size - (1 << 20), 1 << 20),
            ]
            .concat(),
            other => panic!("data layout {other}"),
        }
    }

    fn chunked(&self, inode: &Inode, offset: usize, size: usize) -> Vec<u8> {
        let chunk = 4096usize << inode.u;
        let map = inode.after.next_multiple_of(4);
        let mut data = vec![0; size];
        for (at, byte) in data.iter_mut().enumerate() {
            let place = offset + at;
            let block = self.u32(map + place / chunk * 4);
            if block != u32::MAX {
                *byte = self.0[block as usize * 4096 + place % chunk];
            }
        }
        data
    }

    fn names(&self, inode: &Inode) -> Vec<(Vec<u8>, u64, u8)> {
        let data = self.data(inode);
        let mut names: Vec<(Vec<u8>, u64, u8)> = Vec::new();
        for block in data.chunks(4096) {
            let count = usize::from(u16::from_le_bytes([block[8], block[9]])) / 12;
            let name_at = |entry: usize| {
                usize::from(u16::from_le_bytes([block[entry * 12 + 8], block[entry * 12 + 9]]))
            };
            for entry in 0..count {
                let end = if entry + 1 < count {
                    name_at(entry + 1)
                } else {
                    block.len()
                };
                let name: Vec<u8> = block[name_at(entry)..end]
                    .iter()
                    .copied()
                    .take_while(|b| *b != 0)
                    .collect();
                let nid = u64::from_le_bytes(block[entry * 12..entry * 12 + 8].try_into().unwrap());
                names.push((name, nid, block[entry * 12 + 10]));
            }
        }
        assert!(names.is_sorted_by(|a, b| a.0 < b.0), "names are out of order");
        names
    }

    fn walk(&self, nid: u64, parent: u64, path: &[u8], tree: &mut Tree) {
        let inode = self.inode(nid);
        let kind = inode.mode & 0o170_000;
        let is_dir = kind == 0o040_000;
        let is_device = matches!(kind, 0o020_000 | 0o060_000);
        let data = if matches!(kind, 0o100_000 | 0o120_000) {
            self.data(&inode)
        } else {
            Vec::new()
        };
        let device = |u: u32| rustix::fs::makedev((u >> 8) & 0xfff, (u & 0xff) | ((u >> 12) & !0xff));
        let facts = Facts {
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            size: if is_dir { 0 } else { inode.size },
            mtime: inode.mtime,
            rdev: if is_device { device(inode.u) } else { 0 },
            links: if is_dir { 0 } else { inode.links },
            target: if kind == 0o120_000 {
                data.clone()
            } else {
                Vec::new()
            },
            digest: if kind == 0o100_000 {
                sha256(&data)
            } else {
                String::new()
            },
            xattrs: inode.xattrs.clone(),
        };
        tree.insert(path.to_vec(), facts);
        if !is_dir {
            return;
        }
        let names = self.names(&inode);
        let directories = names.iter().filter(|(_, _, kind)| *kind == 2).count() as u64;
        assert_eq!(inode.links, directories, "links of {}", path.escape_ascii());
        for (name, child, _) in names {
            match name.as_slice() {
                b"." => assert_eq!(child, nid),
                b".." => assert_eq!(child, parent),
                name => self.walk(child, nid, &[path, b"/", name].concat(), tree),
            }
        }
    }
}

/// Reads a whole disk.
pub fn of_disk(path: &Path) -> Tree {
    let disk = Disk(std::fs::read(path).unwrap());
    assert_eq!(disk.u32(1024), 0xe0f5_e1e2, "no erofs");
    assert_eq!(
        disk.0.len() as u64,
        u64::from(disk.u32(1024 + 36)) * 4096,
        "blocks of the superblock"
    );
    assert_eq!(disk.u64(1024 + 24), 0, "the time of the build");
    let root = u64::from(disk.u16(1024 + 14));
    let mut tree = Tree::new();
    disk.walk(root, root, b"", &mut tree);
    tree
}
