//! PAX extended headers: records of `<length> <key>=<value>\n` before the entry that they are about.

use std::collections::BTreeMap;

use crate::tar::number::{parse_decimal, parse_time};
use crate::tar::sparse::SparseRecords;
use crate::tar::{Mtime, TarError};

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// What an extended header says about the next entry.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size_bytes: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Mtime>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: SparseRecords,
}

impl Pax {
    /// Reads the records of one extended header. Of two records with one key the last counts.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, TarError> {
        let mut pax = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = split_record(bytes)?;
            pax.take(key, value)?;
            bytes = rest;
        }
        Ok(pax)
    }

    /// An attribute with nothing in it cannot be said: an empty value takes the record back, as for every other key.
    fn take_xattr(&mut self, name: &[u8], value: &[u8]) {
        if value.is_empty() {
            self.xattrs.remove(name);
        } else {
            self.xattrs.insert(name.to_vec(), value.to_vec());
        }
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size_bytes = number(value, "size")?,
            b"uid" => self.uid = number(value, "uid")?,
            b"gid" => self.gid = number(value, "gid")?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => {
                self.mtime = Some(parse_time(value).ok_or(TarError::Number { field: "mtime" })?);
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    self.take_xattr(name, value);
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(name, value)?;
                }
            }
        }
        Ok(())
    }
}

/// An empty value takes the record back.
fn text(value: &[u8]) -> Result<Option<Vec<u8>>, TarError> {
    if value.contains(&0) {
        return Err(TarError::Extended("a path with a NUL"));
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number(value: &[u8], field: &'static str) -> Result<Option<u64>, TarError> {
    match value {
        [] => Ok(None),
        _ => parse_decimal(value).map(Some).ok_or(TarError::Number { field }),
    }
}

type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn split_record(bytes: &[u8]) -> Result<Record<'_>, TarError> {
    let malformed = || TarError::Extended("a record without a length, a key or an end");
    let space = bytes.iter().position(|b| *b == b' ').ok_or_else(malformed)?;
    let length = bytes.get(..space).and_then(parse_decimal).ok_or_else(malformed)?;
    let length = usize::try_from(length).map_err(|_| malformed())?;
    let (record, rest) = bytes.split_at_checked(length).ok_or_else(malformed)?;
    let body = record.get(space.saturating_add(1)..).ok_or_else(malformed)?;
    let body = body.strip_suffix(b"\n").ok_or_else(malformed)?;
    let equals = body.iter().position(|b| *b == b'=').ok_or_else(malformed)?;
    let (key, value) = body.split_at_checked(equals).ok_or_else(malformed)?;
    if key.is_empty() || key.contains(&0) {
        return Err(malformed());
    }
    Ok((key, value.get(1..).unwrap_or_default(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_of_a_key_counts_and_an_empty_one_takes_back() {
        let pax = Pax::parse(b"9 path=a\n9 path=b\n10 uid=12\n7 uid=\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"b"[..]));
        assert_eq!(pax.uid, None);
    }

    #[test]
    fn attribute_values_may_have_any_bytes() {
        let pax = Pax::parse(b"27 SCHILY.xattr.user.x=\0\n=\n").unwrap();
        assert_eq!(
            pax.xattrs.get(&b"user.x"[..]).map(Vec::as_slice),
            Some(&b"\0\n="[..])
        );
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b\n",
            b"99 a=b\n",
            b"0 a=b\n",
            b"6 abc\n",
            b"5 =b\n",
            b"11 path=a\0b\n",
        ] {
            assert!(Pax::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
