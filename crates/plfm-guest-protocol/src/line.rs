//! Lines out of a byte stream, bounded.

/// Longest line taken, in bytes, its newline not counted.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Why a line was refused. The stream is of no use after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// More than [`LINE_BYTES_MAX`] bytes without a newline.
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("a line is not valid UTF-8")]
    NotUtf8,
}

/// Collects bytes and gives back whole lines. Any split of the same bytes gives the same lines.
///
/// It holds at most [`LINE_BYTES_MAX`] bytes more than the caller pushes between two calls of
/// [`LineDecoder::next_line`], and nothing after an error.
#[derive(Debug, Default)]
pub struct LineDecoder {
    buffer: Vec<u8>,
    /// How much of `buffer` was searched for a newline already.
    searched: usize,
    failed: Option<LineError>,
}

impl LineDecoder {
    /// Adds bytes from the stream. After an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// How many bytes wait for the rest of their line.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole line without its newline, if there is one.
    ///
    /// # Errors
    /// [`LineError`] when the line is too long or not UTF-8, and from then on at every call.
    pub fn next_line(&mut self) -> Result<Option<String>, LineError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(found) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return if self.searched > LINE_BYTES_MAX {
                self.fail(LineError::TooLong)
            } else {
                Ok(None)
            };
        };
        let end = self.searched + found;
        if end > LINE_BYTES_MAX {
            return self.fail(LineError::TooLong);
        }
        let rest = self.buffer.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        line.pop();
        self.searched = 0;
        match String::from_utf8(line) {
            Ok(line) => Ok(Some(line)),
            Err(_) => self.fail(LineError::NotUtf8),
        }
    }

    fn fail<T>(&mut self, error: LineError) -> Result<T, LineError> {
        self.buffer = Vec::new();
        self.failed = Some(error.clone());
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<String>, Option<LineError>) {
        let (mut decoder, mut lines) = (LineDecoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece);
            loop {
                match decoder.next_line() {
                    Ok(Some(line)) => lines.push(line),
                    Ok(None) => break,
                    Err(error) => return (lines, Some(error)),
                }
            }
        }
        (lines, None)
    }

    #[test]
    fn a_line_of_the_limit_is_taken_and_one_more_byte_is_not() {
        let mut line = vec![b'x'; LINE_BYTES_MAX];
        line.push(b'\n');
        assert_eq!(lines(&[&line]).0.len(), 1);
        line.insert(0, b'x');
        assert_eq!(lines(&[&line]).1, Some(LineError::TooLong));
        assert_eq!(
            lines(&[&line[..LINE_BYTES_MAX + 1]]).1,
            Some(LineError::TooLong),
            "without a newline too"
        );
    }

    #[test]
    fn a_line_that_is_not_utf8_is_refused() {
        assert_eq!(
            lines(&[b"ok\n\xff\n"]),
            (vec!["ok".to_owned()], Some(LineError::NotUtf8))
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), cuts: Vec<prop::sample::Index>) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.push(0);
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(lines(&pieces), lines(&[&bytes]));
        }
    }
}
