//! Hand-made layers, each with a name that says what is nasty about it.

use crate::sparse::{old_sparse_files, sparse_0_0, sparse_0_1, sparse_1_0};
use crate::tarball::{Entry, dir, entry, file, hardlink, symlink, tar, whiteout};

/// An image that can be unpacked.
pub struct Case {
    pub name: &'static str,
    pub layers: Vec<Vec<u8>>,
    /// Paths whose time is each tool's own: directories that no layer describes, and those whose time umoci loses.
    pub times_aside: &'static [&'static str],
    /// Whether umoci refuses it, though it is good.
    pub is_beyond_umoci: bool,
}

fn case(name: &'static str, layers: &[&[Entry]]) -> Case {
    Case {
        name,
        layers: layers.iter().map(|entries| with_root(entries)).collect(),
        times_aside: &[],
        is_beyond_umoci: false,
    }
}

fn with_root(entries: &[Entry]) -> Vec<u8> {
    let mut all = vec![dir("./")];
    all.extend(entries.iter().cloned());
    tar(&all)
}

fn without_times(paths: &'static [&'static str], case: Case) -> Case {
    Case {
        times_aside: paths,
        ..case
    }
}

fn beyond_umoci(case: Case) -> Case {
    Case {
        is_beyond_umoci: true,
        ..case
    }
}

/// A capability as `setcap cap_net_raw+ep` writes it.
pub const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// `user::rw-,user:1000:r--,group::r--,mask::r--,other::r--`.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0xff, 0xff, 0xff,
    0xff, 16, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 32, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
];

/// Every image on which umoci and this crate must agree in every fact.
pub fn cases() -> Vec<Case> {
    let long_name = "n".repeat(255);
    let long_path = format!("{}/{}", vec!["d".repeat(120); 3].join("/"), "f".repeat(200));
    let many: Vec<Entry> = (0..700)
        .map(|n| file(format!("many/name-that-takes-room-{n:04}"), n.to_string()))
        .collect();
    let sizes: Vec<Entry> = [
        0usize, 1, 2047, 2048, 2049, 3967, 3968, 4031, 4032, 4095, 4096, 4097, 6144, 6145, 8192, 70_000,
    ]
    .iter()
    .map(|size| {
        file(
            format!("size-{size}"),
            (0..*size).map(|at| (at % 251) as u8).collect::<Vec<_>>(),
        )
    })
    .collect();
    let xattrs_that_fill = file("full", "tail")
        .xattr("user.big", vec![7; 3000])
        .xattr("user.other", vec![8; 980]);
    vec![
        case("an empty layer", &[&[]]),
        Case {
            layers: vec![tar(&[
                dir("./").mode(0o711).owner(1, 2).mtime(7).xattr("user.root", "1"),
                file("x", "1"),
            ])],
            ..case("a root with an owner a mode and attributes", &[])
        },
        case("files of every size around a block", &[&sizes]),
        case(
            "modes with setuid setgid and sticky",
            &[&[
                file("suid", "x").mode(0o4755),
                file("sgid", "x").mode(0o2755),
                dir("tmp").mode(0o1777),
                file("none", "x").mode(0),
                dir("closed").mode(0o0),
            ]],
        ),
        case(
            "owners in octal base 256 and pax",
            &[&[
                file("octal", "x").owner(1000, 2000),
                file("base256", "x").owner(3_000_000, 4_000_000),
                file("pax", "x").pax("uid", "4000000000").pax("gid", "70000"),
                symlink("link", "octal").owner(5, 6),
                dir("dir").owner(7, 8),
            ]],
        ),
        case(
            "times with fractions and before 1970",
            &[&[
                file("fraction", "x").pax("mtime", "1234567890.123456789"),
                file("early", "x").pax("mtime", "-100"),
                file("zero", "x").mtime(0),
                symlink("link", "zero").pax("mtime", "77.5"),
                dir("dir").mtime(86_400),
                file("dir/child", "x"),
                file("late", "x").pax("mtime", "4300000000"),
            ]],
        ),
        case(
            "long names by gnu and pax",
            &[&[
                file(&long_name, "x"),
                implied_dirs(&long_path, 1),
                implied_dirs(&long_path, 2),
                implied_dirs(&long_path, 3),
                file(&long_path, "gnu"),
                file("short", "pax").pax("path", "pax-".repeat(50)),
                symlink("far", "t/".repeat(300)),
                symlink("paxlink", "x").pax("linkpath", "p/".repeat(200)),
            ]],
        ),
        case(
            "names that are not utf-8",
            &[&[
                dir(b"d\xff\xfe"),
                file(b"d\xff\xfe/\x80", "x"),
                file(b"new\nline", "x"),
                file("quote'\"\\ space", "x"),
                file("!before-dot", "x"),
                file("+before-dot-too", "x"),
                file("-dash", "x"),
            ]],
        ),
        case(
            "a directory with many names",
            &[&[&[dir("many")][..], &many].concat()],
        ),
        case(
            "symbolic links that lead out are kept as they are",
            &[&[
                symlink("absolute", "/etc/passwd"),
                symlink("up", "../../../../../etc/passwd"),
                symlink("dangling", "nowhere"),
                symlink("self", "self"),
            ]],
        ),
        case(
            "an entry below a symbolic link lands in the image",
            &[
                &[
                    dir("usr"),
                    dir("usr/bin"),
                    symlink("bin", "usr/bin"),
                    symlink("abs", "/usr"),
                    symlink("up", "../../usr"),
                ],
                &[file("bin/tool", "x"), file("abs/one", "y"), file("up/two", "z")],
            ],
        ),
        case(
            "hard links share one file",
            &[&[
                file("a", "shared").mode(0o640),
                hardlink("b", "a"),
                dir("d"),
                hardlink("d/c", "./a"),
                symlink("s", "a"),
                hardlink("s2", "s"),
            ]],
        ),
        case(
            "hard links to an earlier layer",
            &[&[file("a", "old"), dir("d")], &[hardlink("d/b", "a")]],
        ),
        case(
            "a hard link outlives its first name",
            &[&[file("a", "kept"), hardlink("b", "a")], &[whiteout(".wh.a")]],
        ),
        case(
            "a replaced name leaves its hard link alone",
            &[&[file("a", "old"), hardlink("b", "a")], &[file("a", "new")]],
        ),
        case(
            "hard links to devices and fifos",
            &[&[
                Entry {
                    device: (1, 3),
                    ..entry(b'3', "null")
                },
                hardlink("null2", "null"),
                entry(b'6', "fifo"),
                hardlink("fifo2", "fifo"),
            ]],
        ),
        case(
            "whiteouts of files trees and links",
            &[
                &[
                    file("gone", "x"),
                    file("stays", "x"),
                    dir("tree"),
                    dir("tree/deep"),
                    file("tree/deep/file", "x"),
                    symlink("link", "stays"),
                ],
                &[
                    whiteout(".wh.gone"),
                    whiteout(".wh.tree"),
                    whiteout(".wh.link"),
                    whiteout(".wh.never-was"),
                ],
            ],
        ),
        case(
            "a whiteout deep in a tree",
            &[
                &[dir("a"), dir("a/b"), file("a/b/x", "1"), file("a/b/y", "2")],
                &[dir("a"), dir("a/b"), whiteout("a/b/.wh.x")],
            ],
        ),
        case(
            "a name comes back after a whiteout",
            &[
                &[file("a", "1"), dir("d"), file("d/x", "1")],
                &[whiteout(".wh.a"), whiteout(".wh.d")],
                &[file("a", "2"), dir("d"), file("d/y", "2")],
            ],
        ),
        case(
            "an opaque directory hides what was below",
            &[
                &[
                    dir("d"),
                    file("d/old", "x"),
                    dir("d/sub"),
                    file("d/sub/old", "x"),
                    file("stays", "x"),
                ],
                &[dir("d"), whiteout("d/.wh..wh..opq"), file("d/new", "y")],
            ],
        ),
        without_times(
            &["/d/sub"],
            case(
                "an opaque mark after its directory's new files",
                &[
                    &[dir("d"), file("d/old", "x"), dir("d/sub"), file("d/sub/old", "x")],
                    &[
                        dir("d"),
                        file("d/new", "y"),
                        dir("d/sub"),
                        file("d/sub/new", "y"),
                        whiteout("d/.wh..wh..opq"),
                    ],
                ],
            ),
        ),
        without_times(
            &["", "/d"],
            case(
                "whiteouts after their own layer's files",
                &[
                    &[dir("d"), file("d/old", "1"), file("f", "1")],
                    &[
                        dir("d"),
                        file("d/new", "2"),
                        whiteout(".wh.d"),
                        file("f", "2"),
                        whiteout(".wh.f"),
                    ],
                ],
            ),
        ),
        case(
            "an opaque root",
            &[
                &[file("old", "x"), dir("d")],
                &[whiteout(".wh..wh..opq"), file("new", "y")],
            ],
        ),
        case(
            "directories become files and come back",
            &[
                &[dir("a"), file("a/x", "1"), file("b", "1"), symlink("c", "a")],
                &[
                    file("a", "now a file"),
                    dir("b"),
                    file("b/y", "2"),
                    dir("c"),
                    file("c/z", "3"),
                ],
                &[
                    dir("a"),
                    file("a/again", "3"),
                    file("b", "file again"),
                    symlink("c", "b"),
                ],
            ],
        ),
        case(
            "one name twice in a layer is the last",
            &[&[
                file("a", "first"),
                file("a", "second").mode(0o600),
                dir("d").mode(0o700),
                file("d/x", "1"),
                dir("d").mode(0o711),
                file("e", "file"),
                symlink("e", "a"),
            ]],
        ),
        case(
            "a later layer changes a directory and keeps its files",
            &[
                &[dir("d").owner(1, 1), file("d/x", "1")],
                &[dir("d").mode(0o700).owner(2, 3)],
            ],
        ),
        case(
            "extended attributes and capabilities",
            &[&[
                file("tool", "x")
                    .mode(0o755)
                    .xattr("security.capability", CAPABILITY),
                file("user", "x")
                    .xattr("user.a", "1")
                    .xattr("user.b", vec![0, 1, 255])
                    .xattr("user.empty", ""),
                dir("dir").xattr("user.on.dir", "yes"),
                file("trusted", "x").xattr("trusted.t", "1"),
                symlink("link", "tool").xattr("trusted.link", "1"),
                xattrs_that_fill,
                file("acl", "x").xattr("system.posix_acl_access", ACL),
            ]],
        ),
        case(
            "a later layer drops a directory's attributes",
            &[
                &[dir("d").xattr("user.a", "1").xattr("user.b", "2")],
                &[dir("d").xattr("user.b", "3")],
            ],
        ),
        case(
            "a replaced file has none of the old attributes",
            &[
                &[file("tool", "x")
                    .xattr("security.capability", CAPABILITY)
                    .xattr("user.a", "1")],
                &[file("tool", "y")],
            ],
        ),
        case(
            "devices and fifos",
            &[&[
                dir("dev"),
                Entry {
                    device: (1, 3),
                    mode: 0o666,
                    ..entry(b'3', "dev/null")
                },
                Entry {
                    device: (8, 300),
                    mode: 0o660,
                    ..entry(b'4', "dev/sdx")
                },
                Entry {
                    device: (4095, 1_048_575),
                    ..entry(b'3', "dev/far")
                },
                entry(b'6', "dev/fifo").mode(0o622),
            ]],
        ),
        case(
            "sparse files by pax records",
            &[&[
                sparse_0_0("v00", &[(4096, 4096), (1 << 20, 100)], (1 << 20) + 100),
                sparse_0_1("v01", &[(0, 1), (50_000, 512)], 60_000),
                sparse_1_0("v10", &[(12_288, 8192), (1 << 20, 0)], 1 << 20),
                sparse_1_0("all-hole", &[], 1 << 20),
                sparse_1_0("tiny-holes", &[(0, 100), (200, 100)], 300),
                sparse_1_0("large", &[((1 << 30) - 5, 5)], 1 << 30),
            ]],
        ),
        beyond_umoci(case("sparse files in gnu's old format", &[&old_sparse_files()])),
        without_times(
            &["", "/a", "/a/b", "/x"],
            case(
                "directories that no layer describes",
                &[&[file("a/b/c", "x")], &[file("x/y", "x")]],
            ),
        ),
        case(
            "old kinds of entries",
            &[&[
                Entry {
                    data: b"v7".to_vec(),
                    ..entry(0, "v7-file")
                },
                Entry {
                    mode: 0o755,
                    ..entry(0, "v7-directory/")
                },
                file("after", "x"),
            ]],
        ),
        beyond_umoci(case(
            "a global header is passed over",
            &[&[
                Entry {
                    data: b"12 path=all\n".to_vec(),
                    ..entry(b'g', "global")
                },
                file("x", "1"),
            ]],
        )),
        beyond_umoci(case(
            "contiguous files",
            &[&[Entry {
                data: b"contiguous".to_vec(),
                ..entry(b'7', "contiguous")
            }]],
        )),
    ]
}

/// A directory entry for the first names of a path.
fn implied_dirs(path: &str, depth: usize) -> Entry {
    dir(path.split('/').take(depth).collect::<Vec<_>>().join("/"))
}
