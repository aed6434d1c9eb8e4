use std::io::Read as _;

use super::*;
use proptest::prelude::*;

const EPOCH: Epoch = Epoch::from_seconds(1_766_000_000);

fn dir(path: &str) -> Entry<'_> {
    Entry {
        path,
        mode: 0o755,
        node: Node::Directory,
    }
}

fn file<'a>(path: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry {
        path,
        mode: 0o755,
        node: Node::File { content },
    }
}

/// Name, mode with type, inode, links, mtime, device, content.
type Row = (String, u32, u32, u32, u32, (u32, u32), Vec<u8>);

fn unpack(mut archive: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let mut reader = cpio::newc::Reader::new(archive).unwrap();
        let entry = reader.entry().clone();
        if entry.is_trailer() {
            return rows;
        }
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        assert_eq!((entry.uid(), entry.gid()), (0, 0));
        let device = (entry.rdev_major(), entry.rdev_minor());
        let name = entry.name().to_owned();
        rows.push((
            name,
            entry.mode(),
            entry.ino(),
            entry.nlink(),
            entry.mtime(),
            device,
            content,
        ));
        archive = reader.finish().unwrap();
    }
}

#[test]
fn every_field_is_what_it_should_be() {
    let console = Entry {
        path: "dev/console",
        mode: 0o600,
        node: Node::CharDevice { major: 5, minor: 1 },
    };
    let sh = Entry {
        path: "sh",
        mode: 0o777,
        node: Node::Symlink { target: "init" },
    };
    let archive = pack(&[sh, file("init", b"12345"), console, dir("dev")], EPOCH).unwrap();
    let mtime = EPOCH.seconds();
    let expected = [
        ("dev".to_owned(), 0o40755, 1, 2, mtime, (0, 0), vec![]),
        ("dev/console".to_owned(), 0o20600, 2, 1, mtime, (5, 1), vec![]),
        (
            "init".to_owned(),
            0o100755,
            3,
            1,
            mtime,
            (0, 0),
            b"12345".to_vec(),
        ),
        ("sh".to_owned(), 0o120777, 4, 1, mtime, (0, 0), b"init".to_vec()),
    ];
    assert_eq!(unpack(&archive), expected);
}

#[test]
fn entries_that_no_archive_can_hold_are_refused() {
    let refused = |entries: &[Entry<'_>]| pack(entries, EPOCH).unwrap_err();
    for path in [
        "",
        "/init",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        ".",
        "a\0b",
        "TRAILER!!!",
        &"x".repeat(4096),
    ] {
        assert!(
            matches!(refused(&[dir("a"), dir(path)]), ArchiveError::BadPath { .. }),
            "{path:?} was taken"
        );
    }
    assert!(matches!(
        refused(&[dir("a"), dir("a")]),
        ArchiveError::Duplicate { .. }
    ));
    assert!(matches!(
        refused(&[file("a/b", b"")]),
        ArchiveError::NoParent { .. }
    ));
    assert!(matches!(
        refused(&[file("a", b""), file("a/b", b"")]),
        ArchiveError::NoParent { .. }
    ));
    let setid = Entry {
        path: "x",
        mode: 0o10000,
        node: Node::Directory,
    };
    assert!(matches!(refused(&[setid]), ArchiveError::BadMode { .. }));
}

#[test]
fn the_gzip_header_says_nothing_about_the_machine() {
    for level in 0..=9 {
        let bytes = gzip(b"content", GzipLevel::new(level).unwrap()).unwrap();
        assert_eq!(bytes[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0], "level {level}");
        assert_eq!(bytes[9], GZIP_OS_UNKNOWN, "level {level}");
    }
    assert_eq!(GzipLevel::new(10), None);
}

#[test]
fn stored_means_that_nothing_is_compressed() {
    let bytes = gzip(&[0; 100_000], GzipLevel::STORED).unwrap();
    assert!((100_000..100_100).contains(&bytes.len()), "{}", bytes.len());
}

#[test]
fn the_real_tools_unpack_it() {
    let archive = pack(&[dir("a"), file("a/b", b"content\n"), file("init", b"#!")], EPOCH).unwrap();
    let bytes = gzip(&archive, GzipLevel::STORED).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.img"), bytes).unwrap();
    let script = "command -v cpio gzip >/dev/null || exit 77; gzip -dc x.img | cpio -i --quiet && cat a/b";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(dir.path())
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        eprintln!("skipped: cpio or gzip is not installed");
        return;
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.stdout, b"content\n");
    use std::os::unix::fs::MetadataExt as _;
    let mtime = std::fs::metadata(dir.path().join("init")).unwrap().mtime();
    assert!(mtime > 0);
}

/// A tree without collisions: directories `a`…`e`, files below them.
fn tree() -> impl Strategy<Value = Vec<(String, u16, Option<Vec<u8>>)>> {
    let files =
        proptest::collection::btree_map("[a-e]/[a-z.-]{1,8}[a-z]", (0u16..0o1000, any::<Vec<u8>>()), 0..12);
    files.prop_map(|files| {
        let dirs = ["a", "b", "c", "d", "e"].map(|dir| (dir.to_owned(), 0o755, None));
        let files = files
            .into_iter()
            .map(|(path, (mode, content))| (path, mode, Some(content)));
        dirs.into_iter().chain(files).collect()
    })
}

proptest! {
    #[test]
    fn an_archive_unpacks_to_its_entries_whatever_their_order(tree in tree(), seed: u64, level in 0u32..=9) {
        let entries: Vec<Entry<'_>> = tree
            .iter()
            .map(|(path, mode, content)| {
                let node = content.as_deref().map_or(Node::Directory, |content| Node::File { content });
                Entry { path, mode: *mode, node }
            })
            .collect();
        let mut shuffled = entries.clone();
        let length = shuffled.len();
        for (index, step) in (0..length).zip(1u64..) {
            shuffled.swap(index, (seed.wrapping_mul(step) % length as u64) as usize);
        }
        let archive = pack(&entries, EPOCH).unwrap();
        prop_assert_eq!(&archive, &pack(&shuffled, EPOCH).unwrap());
        let rows = unpack(&archive);
        let mut expected: Vec<_> = tree.iter().map(|(p, _, c)| (p.clone(), c.clone().unwrap_or_default())).collect();
        expected.sort();
        prop_assert_eq!(rows.iter().map(|row| (row.0.clone(), row.6.clone())).collect::<Vec<_>>(), expected);
        prop_assert!(rows.iter().zip(1..).all(|(row, inode)| row.2 == inode));

        let packed = gzip(&archive, GzipLevel::new(level).unwrap()).unwrap();
        prop_assert_eq!(&packed, &gzip(&archive, GzipLevel::new(level).unwrap()).unwrap());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        prop_assert_eq!(unpacked, archive);
    }
}
