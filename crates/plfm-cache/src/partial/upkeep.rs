//! Partial files that nobody comes back for.

use std::cmp::Reverse;
use std::ffi::OsStr;

use plfm_release::Sha256Digest;

use super::{PARTIAL_SUFFIX, partial};
use crate::hold::Holds;
use crate::tree::{self, Tree};
use crate::{DiskError, FileKind, Folder, Place};

/// How long a file that nobody asked for is kept: a week of being cut off from every registry.
const PARTIAL_AGE_NS_MAX: i128 = 7 * 24 * 3600 * 1_000_000_000;
/// How many are kept at start: two releases on their way.
const PARTIALS_MAX: usize = 4;

fn digest_of(name: &OsStr) -> Option<Sha256Digest> {
    name.to_str()?.strip_suffix(PARTIAL_SUFFIX)?.parse().ok()
}

/// Partial files among the names in `.staging` that are worth going on with at start, the last written ones.
pub(crate) fn worth_keeping(tree: &Tree) -> Result<Vec<Place>, DiskError> {
    let mut partials = Vec::new();
    for digest in tree
        .list(Folder::Staging)?
        .iter()
        .filter_map(|name| digest_of(name))
    {
        let at = partial(&digest);
        if let Some(facts) = tree.facts_at(&at)?
            && facts.kind == FileKind::Regular
            && facts.modified_ns + PARTIAL_AGE_NS_MAX > tree.disk().clock_ns()
            // A power cut may have brought back what had become a blob.
            && tree.facts_at(&tree::blob(&digest))?.is_none()
        {
            partials.push((Reverse(facts.modified_ns), at));
        }
    }
    partials.sort_unstable();
    Ok(partials
        .into_iter()
        .take(PARTIALS_MAX)
        .map(|(_, at)| at)
        .collect())
}

/// Removes the partial files that nobody has open; how much they took, in bytes.
pub(crate) fn remove_unused(tree: &Tree, open: &Holds<Sha256Digest>) -> Result<u64, DiskError> {
    let mut freed_bytes = 0;
    for digest in tree
        .list(Folder::Staging)?
        .iter()
        .filter_map(|name| digest_of(name))
    {
        let at = partial(&digest);
        let Some(facts) = tree.facts_at(&at)? else {
            continue;
        };
        let removed = open.unless_held(&digest, |_| tree.remove_file(&at));
        if removed.transpose()? == Some(true) {
            freed_bytes += facts.size_bytes;
        }
    }
    Ok(freed_bytes)
}
