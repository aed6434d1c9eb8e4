//! Readers that check what passes through them: sizes and digests of what is stored, digests and growth of what comes
//! out of the decompressor.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use plfm_release::{Sha256Digest, Sha256Hasher};

use crate::limits::{Limits, RATIO_FREE_BYTES, ZSTD_WINDOW_LOG_MAX};

const BUFFER_BYTES: usize = 256 << 10;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 0x08];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Bytes that are not what they were said to be, or more than are taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamRefusal {
    #[error("it has sha256:{found}, not sha256:{expected}")]
    Digest {
        expected: Sha256Digest,
        found: Sha256Digest,
    },
    #[error("it has not the {expected} bytes that it should have")]
    Size { expected: u64 },
    #[error("unpacked it has sha256:{found}, not the diff id sha256:{expected}")]
    DiffId {
        expected: Sha256Digest,
        found: Sha256Digest,
    },
    #[error("it unpacks to more than {max} times its size")]
    Ratio { max: u64 },
    #[error("the image unpacks to more than {max} bytes")]
    Unpacked { max: u64 },
}

impl From<StreamRefusal> for io::Error {
    fn from(refusal: StreamRefusal) -> Self {
        Self::other(refusal)
    }
}

impl StreamRefusal {
    /// The refusal that travelled through a reader's error, if that is what it was.
    pub(crate) fn within(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// How the bytes of a layer are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// A plain tar.
    Plain,
    /// What its first bytes say: gzip, zstd or neither. Media types are known to be wrong about it, diff ids are not.
    Told,
}

/// Checks size and digest of the stored bytes, at their end.
struct Stored {
    file: io::Take<File>,
    expected: Option<Sha256Digest>,
    size_bytes: u64,
    hasher: Sha256Hasher,
    seen_bytes: Rc<Cell<u64>>,
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.seen_bytes
            .set(self.seen_bytes.get().saturating_add(count as u64));
        if self.expected.is_some() {
            self.hasher.update(buffer.get(..count).unwrap_or_default());
        }
        Ok(count)
    }
}

impl Stored {
    fn finish(mut self) -> Result<(), io::Error> {
        io::copy(&mut self, &mut io::sink())?;
        if self.seen_bytes.get() != self.size_bytes {
            return Err(StreamRefusal::Size {
                expected: self.size_bytes,
            }
            .into());
        }
        match self.expected.map(|expected| (expected, self.hasher.finish())) {
            Some((expected, found)) if expected != found => {
                Err(StreamRefusal::Digest { expected, found }.into())
            }
            _ => Ok(()),
        }
    }
}

type Input = io::BufReader<Stored>;

enum Unpacker {
    Plain(Box<Input>),
    Gzip(Box<MultiGzDecoder<Input>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Input>>),
}

impl Read for Unpacker {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl Unpacker {
    fn new(packing: Packing, mut input: Input) -> io::Result<Self> {
        let magic = io::BufRead::fill_buf(&mut input)?;
        if packing == Packing::Plain {
            return Ok(Self::Plain(Box::new(input)));
        }
        if magic.starts_with(GZIP_MAGIC) {
            return Ok(Self::Gzip(Box::new(MultiGzDecoder::new(input))));
        }
        if !magic.starts_with(ZSTD_MAGIC) {
            return Ok(Self::Plain(Box::new(input)));
        }
        let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Ok(Self::Zstd(Box::new(decoder)))
    }

    fn into_stored(self) -> Stored {
        let input = match self {
            Self::Plain(input) => *input,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        };
        input.into_inner()
    }
}

/// What a layer is expected to be.
pub(crate) struct Expected {
    pub digest: Option<Sha256Digest>,
    pub size_bytes: u64,
    pub diff_id: Sha256Digest,
    pub packing: Packing,
}

/// A layer's tar stream. Its bytes are not to be believed before [`LayerStream::finish`] has said yes.
pub(crate) struct LayerStream {
    unpacker: Unpacker,
    hasher: Sha256Hasher,
    diff_id: Sha256Digest,
    seen_bytes: Rc<Cell<u64>>,
    unpacked_bytes: u64,
    ratio_max: u64,
    unpacked_bytes_max: u64,
    /// What all layers together may still unpack to.
    budget_bytes: u64,
}

impl LayerStream {
    /// Opens a layer whose stored bytes begin at the file's position.
    pub(crate) fn open(
        file: File,
        expected: &Expected,
        limits: &Limits,
        budget_bytes: u64,
    ) -> io::Result<Self> {
        let seen_bytes = Rc::new(Cell::new(0));
        let stored = Stored {
            file: file.take(expected.size_bytes),
            expected: expected.digest,
            size_bytes: expected.size_bytes,
            hasher: Sha256Hasher::new(),
            seen_bytes: Rc::clone(&seen_bytes),
        };
        let input = io::BufReader::with_capacity(BUFFER_BYTES, stored);
        Ok(Self {
            unpacker: Unpacker::new(expected.packing, input)?,
            hasher: Sha256Hasher::new(),
            diff_id: expected.diff_id,
            seen_bytes,
            unpacked_bytes: 0,
            ratio_max: limits.ratio_max,
            unpacked_bytes_max: limits.unpacked_bytes_max,
            budget_bytes,
        })
    }

    /// Reads what is left of the stored bytes and checks them alone.
    pub(crate) fn finish_stored(self) -> io::Result<()> {
        self.unpacker.into_stored().finish()
    }

    /// Reads what is left and checks everything; gives the unpacked size.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if StreamRefusal::within(&error).is_some() => return Err(error),
                // What a decompressor says of damaged bytes is less than that they are damaged.
                Err(error) => return Err(self.finish_stored().err().unwrap_or(error)),
            }
        }
        // The stored bytes first: damage in transit is theirs, a wrong diff id the image's.
        self.unpacker.into_stored().finish()?;
        let (expected, found) = (self.diff_id, self.hasher.finish());
        if expected != found {
            return Err(StreamRefusal::DiffId { expected, found }.into());
        }
        Ok(self.unpacked_bytes)
    }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.unpacker.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(count as u64);
        if self.unpacked_bytes > self.budget_bytes {
            return Err(StreamRefusal::Unpacked {
                max: self.unpacked_bytes_max,
            }
            .into());
        }
        let allowed = self.seen_bytes.get().saturating_mul(self.ratio_max);
        if self.unpacked_bytes > RATIO_FREE_BYTES && self.unpacked_bytes > allowed {
            return Err(StreamRefusal::Ratio { max: self.ratio_max }.into());
        }
        Ok(count)
    }
}
