//! A tar writer that makes what no sane one makes.

use std::fmt::Write as _;

/// A time that every entry has unless it says otherwise.
pub const MTIME: u64 = 1_600_000_000;

/// One entry's header.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: u8,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub device: (u64, u64),
    pub data: Vec<u8>,
    pub pax: Vec<(String, Vec<u8>)>,
    /// Bytes 345 to 500 of a GNU header.
    pub gnu_tail: Option<Vec<u8>>,
    /// Blocks between header and data.
    pub extra: Vec<u8>,
}

pub fn entry(kind: u8, name: impl AsRef<[u8]>) -> Entry {
    Entry {
        name: name.as_ref().to_vec(),
        kind,
        link: Vec::new(),
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: MTIME,
        device: (0, 0),
        data: Vec::new(),
        pax: Vec::new(),
        gnu_tail: None,
        extra: Vec::new(),
    }
}

pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Entry {
    Entry {
        data: data.as_ref().to_vec(),
        ..entry(b'0', name)
    }
}

pub fn dir(name: impl AsRef<[u8]>) -> Entry {
    entry(b'5', name)
}

pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry {
        link: target.as_ref().to_vec(),
        mode: 0o777,
        ..entry(b'2', name)
    }
}

pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry {
        link: target.as_ref().to_vec(),
        ..entry(b'1', name)
    }
}

pub fn whiteout(name: &str) -> Entry {
    file(name, "")
}

impl Entry {
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub fn owner(self, uid: u64, gid: u64) -> Self {
        Self { uid, gid, ..self }
    }

    pub fn mtime(self, mtime: u64) -> Self {
        Self { mtime, ..self }
    }

    pub fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    fn render(&self, out: &mut Vec<u8>) {
        if !self.pax.is_empty() {
            let records: Vec<u8> = self
                .pax
                .iter()
                .flat_map(|(key, value)| record(key, value))
                .collect();
            out.extend(header(&file("pax", &records), b'x', records.len() as u64));
            out.extend(padded(&records));
        }
        if self.name.len() > 100 {
            long(b'L', &self.name, out);
        }
        if self.link.len() > 100 {
            long(b'K', &self.link, out);
        }
        out.extend(header(self, self.kind, self.data.len() as u64));
        out.extend(&self.extra);
        out.extend(padded(&self.data));
    }
}

/// A tar archive of these entries, with its end.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    entries.iter().for_each(|entry| entry.render(&mut out));
    out.resize(out.len() + 1024, 0);
    out
}

fn long(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    let data = [text, b"\0"].concat();
    out.extend(header(&file("././@LongLink", &data), kind, data.len() as u64));
    out.extend(padded(&data));
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + body.to_string().len();
    if length.to_string().len() > body.to_string().len() {
        length += 1;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

pub fn octal(number: u64, width: usize) -> Vec<u8> {
    let mut text = String::new();
    write!(text, "{number:0width$o}", width = width - 1).unwrap();
    if text.len() < width {
        let mut field = text.into_bytes();
        field.push(0);
        return field;
    }
    let mut field = vec![0; width];
    let bytes = number.to_be_bytes();
    let start = width - bytes.len().min(width);
    field[start..].copy_from_slice(&bytes[bytes.len() - (width - start)..]);
    field[0] |= 0x80;
    field
}

fn header(entry: &Entry, kind: u8, size: u64) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &entry.name[..entry.name.len().min(100)]);
    put(100, &octal(u64::from(entry.mode), 8));
    put(108, &octal(entry.uid, 8));
    put(116, &octal(entry.gid, 8));
    put(124, &octal(size, 12));
    put(136, &octal(entry.mtime, 12));
    put(156, &[kind]);
    put(157, &entry.link[..entry.link.len().min(100)]);
    put(
        257,
        if entry.gnu_tail.is_some() {
            b"ustar  \0"
        } else {
            b"ustar\x0000"
        },
    );
    put(329, &octal(entry.device.0, 8));
    put(337, &octal(entry.device.1, 8));
    if let Some(tail) = &entry.gnu_tail {
        put(345, tail);
    }
    put(148, b"        ");
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    let checksum = format!("{sum:06o}\0 ");
    block[148..156].copy_from_slice(checksum.as_bytes());
    block
}
