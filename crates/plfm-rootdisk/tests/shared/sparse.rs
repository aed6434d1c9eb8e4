//! Entries of sparse files, in each of the four formats.

use crate::tarball::{Entry, entry, file, octal};

/// A map that fits the header, and one that takes a block more after it.
pub fn old_sparse_files() -> Vec<Entry> {
    let many: Vec<(u64, u64)> = (0..40).map(|n| (n * 16_384, 700)).collect();
    vec![
        old_sparse("old", &[(0, 10), (8192, 5000), (100_000, 0)], 100_000),
        old_sparse("old-continued", &many, 1 << 20),
    ]
}

/// What a reader makes of [`old_sparse_files`].
pub fn old_sparse_contents() -> [(&'static str, Vec<u8>); 2] {
    let mut first = vec![0; 100_000];
    first[..10].fill(b'd');
    first[8192..13_192].fill(b'd');
    let mut second = vec![0; 1 << 20];
    (0..40).for_each(|n| second[n * 16_384..n * 16_384 + 700].fill(b'd'));
    [("/old", first), ("/old-continued", second)]
}

/// GNU's old format: the map in the header and, with more than four places, in blocks after it.
pub fn old_sparse(name: &str, map: &[(u64, u64)], size: u64) -> Entry {
    let places: Vec<u8> = map
        .iter()
        .flat_map(|(offset, bytes)| [octal(*offset, 12), octal(*bytes, 12)].concat())
        .collect();
    let (first, rest) = places.split_at(places.len().min(96));
    let mut tail = vec![0; 41];
    tail.extend(first);
    tail.resize(41 + 96, 0);
    tail.push(u8::from(!rest.is_empty()));
    tail.extend(octal(size, 12));
    let mut extra = Vec::new();
    let blocks: Vec<&[u8]> = rest.chunks(21 * 24).collect();
    for (number, places) in blocks.iter().enumerate() {
        let mut block = places.to_vec();
        block.resize(504, 0);
        block.push(u8::from(number + 1 < blocks.len()));
        block.resize(512, 0);
        extra.extend(block);
    }
    let bytes: u64 = map.iter().map(|(_, bytes)| bytes).sum();
    Entry {
        gnu_tail: Some(tail),
        extra,
        data: vec![b'd'; bytes as usize],
        ..entry(b'S', name)
    }
}

pub fn sparse_0_0(name: &str, map: &[(u64, u64)], size: u64) -> Entry {
    let mut file = file(name, data_of(map)).pax("GNU.sparse.size", size.to_string());
    file = file.pax("GNU.sparse.numblocks", map.len().to_string());
    for (offset, bytes) in map {
        file = file
            .pax("GNU.sparse.offset", offset.to_string())
            .pax("GNU.sparse.numbytes", bytes.to_string());
    }
    file
}

pub fn sparse_0_1(name: &str, map: &[(u64, u64)], size: u64) -> Entry {
    let text: Vec<String> = map
        .iter()
        .map(|(offset, bytes)| format!("{offset},{bytes}"))
        .collect();
    file("GNUSparseFile.0/x", data_of(map))
        .pax("GNU.sparse.major", "0")
        .pax("GNU.sparse.minor", "1")
        .pax("GNU.sparse.name", name)
        .pax("GNU.sparse.size", size.to_string())
        .pax("GNU.sparse.numblocks", map.len().to_string())
        .pax("GNU.sparse.map", text.join(","))
}

pub fn sparse_1_0(name: &str, map: &[(u64, u64)], size: u64) -> Entry {
    let mut text = format!("{}\n", map.len());
    map.iter()
        .for_each(|(offset, bytes)| text.push_str(&format!("{offset}\n{bytes}\n")));
    let mut data = text.into_bytes();
    data.resize(data.len().next_multiple_of(512), 0);
    data.extend(data_of(map));
    file("GNUSparseFile.0/x", data)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", name)
        .pax("GNU.sparse.realsize", size.to_string())
}

fn data_of(map: &[(u64, u64)]) -> Vec<u8> {
    vec![b'd'; map.iter().map(|(_, bytes)| *bytes as usize).sum()]
}
