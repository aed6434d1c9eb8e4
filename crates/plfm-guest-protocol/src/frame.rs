//! Frames: how streams and control messages share one connection.
//!
//! ```text
//! u32 big-endian: n   u8: type   n - 1 bytes: payload
//! ```

/// Largest frame, in bytes, its length prefix not counted.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameType {
    /// Bytes for standard input.
    Stdin,
    /// Bytes of standard output (of the terminal, where there is one).
    Stdout,
    /// Bytes of standard error.
    Stderr,
    /// An [`crate::ExecControl`] as JSON.
    Control,
    /// An [`crate::ExecExit`] as JSON; the last frame of a session.
    Exit,
}

impl FrameType {
    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::Stdin => 0x01,
            Self::Stdout => 0x02,
            Self::Stderr => 0x03,
            Self::Control => 0x10,
            Self::Exit => 0x11,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Stdin, Self::Stdout, Self::Stderr, Self::Control, Self::Exit]
            .into_iter()
            .find(|kind| kind.byte() == byte)
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameType,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// Why a frame was refused. The stream is of no use after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Its length is 0 or more than [`FRAME_BYTES_MAX`].
    #[error("a frame announces {0} bytes; it must have 1 to {FRAME_BYTES_MAX}")]
    Length(u32),
    /// Its type is unknown.
    #[error("a frame has the unknown type {0:#04x}")]
    UnknownType(u8),
}

/// The bytes of `payload` as one or more frames (none for an empty payload of a stream type).
///
/// Control and exit messages must fit one frame; streams are split.
pub fn encode_frame(kind: FrameType, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 5);
    for piece in payload.chunks(FRAME_BYTES_MAX - 1) {
        // A piece is at most 64 KiB - 1, so its length plus one fits 32 bits.
        let length = u32::try_from(piece.len() + 1).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.push(kind.byte());
        out.extend_from_slice(piece);
    }
    out
}

/// Collects bytes and gives back whole frames. Any split of the same bytes gives the same frames.
///
/// It holds less than one frame more than the caller pushes between two calls that give `None`, and nothing after
/// an error.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// How much of `buffer` was given back already. It goes when no whole frame is left, so that many small frames
    /// in one push are not moved once for each.
    taken: usize,
    failed: Option<FrameError>,
}

impl FrameDecoder {
    /// Adds bytes from the stream. After an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// How many bytes wait for the rest of their frame.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len() - self.taken
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// [`FrameError`] when the length or the type is out of range, and from then on at every call.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match split_frame(self.buffer.get(self.taken..).unwrap_or_default()) {
            Ok(Some(frame)) => {
                self.taken += 4 + 1 + frame.payload.len();
                Ok(Some(frame))
            }
            Ok(None) => {
                self.buffer.drain(..self.taken);
                self.taken = 0;
                Ok(None)
            }
            Err(error) => {
                (self.buffer, self.taken) = (Vec::new(), 0);
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }
}

/// The frame at the beginning of `bytes`, if it is there whole.
fn split_frame(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let announced = u32::from_be_bytes(*prefix);
    let length = usize::try_from(announced).map_err(|_| FrameError::Length(announced))?;
    if !(1..=FRAME_BYTES_MAX).contains(&length) {
        return Err(FrameError::Length(announced));
    }
    let Some((kind, payload)) = rest.get(..length).and_then(<[u8]>::split_first) else {
        return Ok(None);
    };
    let kind = FrameType::from_byte(*kind).ok_or(FrameError::UnknownType(*kind))?;
    Ok(Some(Frame {
        kind,
        payload: payload.to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>) {
        let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece);
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    }

    #[test]
    fn lengths_out_of_range_and_unknown_types_are_refused() {
        assert_eq!(frames(&[&[0, 0, 0, 0, 2]]).1, Some(FrameError::Length(0)));
        assert_eq!(frames(&[&[0, 1, 0, 1, 2]]).1, Some(FrameError::Length(65_537)));
        assert_eq!(frames(&[&[0, 0, 0, 1, 9]]).1, Some(FrameError::UnknownType(9)));
    }

    #[test]
    fn a_long_stream_is_split_and_loses_nothing() {
        let payload: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let (frames, error) = frames(&[&encode_frame(FrameType::Stderr, &payload)]);
        assert_eq!(error, None);
        assert_eq!(frames.len(), 4);
        assert_eq!(frames.concat_payloads(), payload);
    }

    trait Concat {
        fn concat_payloads(&self) -> Vec<u8>;
    }

    impl Concat for Vec<Frame> {
        fn concat_payloads(&self) -> Vec<u8> {
            self.iter()
                .flat_map(|frame| frame.payload.iter().copied())
                .collect()
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            junk in proptest::collection::vec(any::<u8>(), 0..12),
            cuts: Vec<prop::sample::Index>,
        ) {
            let mut bytes: Vec<u8> = payloads.iter().flat_map(|payload| encode_frame(FrameType::Stdout, payload)).collect();
            bytes.extend(junk);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(frames(&pieces), frames(&[&bytes]));
        }
    }
}
