//! Extended attributes, all of them beside their inode.

use std::collections::BTreeMap;

const HEADER_BYTES: usize = 12;
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The attributes as they are behind an inode, in the order of their names; nothing for none. Names that the format
/// has no prefix for are left out: they were dropped before.
pub(super) fn render(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut area = vec![0; HEADER_BYTES];
    for (name, value) in xattrs {
        let known = PREFIXES
            .iter()
            .find_map(|(prefix, index)| Some((name.strip_prefix(*prefix)?, *index)));
        let Some((rest, index)) = known else { continue };
        let (Ok(name_bytes), Ok(value_bytes)) = (u8::try_from(rest.len()), u16::try_from(value.len())) else {
            continue;
        };
        area.extend([name_bytes, index]);
        area.extend(value_bytes.to_le_bytes());
        area.extend(rest);
        area.extend(value);
        area.resize(area.len().next_multiple_of(4), 0);
    }
    if area.len() == HEADER_BYTES {
        Vec::new()
    } else {
        area
    }
}

/// How an inode says how large its area is.
pub(super) fn count(area_bytes: usize) -> u16 {
    match area_bytes.checked_sub(HEADER_BYTES) {
        None => 0,
        Some(bytes) => u16::try_from(bytes / 4 + 1).unwrap_or(u16::MAX),
    }
}
