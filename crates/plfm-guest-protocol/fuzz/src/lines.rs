//! Lines: any split of a stream gives the same lines, and they are those that a plain split at newlines gives.

use plfm_guest_protocol::{LINE_BYTES_MAX, LineDecoder, LineError};

use super::pieces::pieces;

/// Reads everything after the first byte, which seeds the cuts, whole and in pieces.
pub fn check(input: &[u8]) {
    let Some((seed, bytes)) = input.split_first() else {
        return;
    };
    let whole = decode(&[bytes]);
    assert_eq!(decode(&pieces(*seed, bytes)), whole);
    assert_eq!(expected(bytes), whole);
}

fn decode(pieces: &[&[u8]]) -> (Vec<String>, Option<LineError>) {
    let (mut decoder, mut lines) = (LineDecoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_line() {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => break,
                Err(error) => {
                    decoder.push(b"more\n");
                    assert_eq!(
                        decoder.next_line(),
                        Err(error.clone()),
                        "an error is the last word"
                    );
                    assert_eq!(decoder.buffered_bytes(), 0);
                    return (lines, Some(error));
                }
            }
        }
        assert!(decoder.buffered_bytes() <= LINE_BYTES_MAX);
    }
    (lines, None)
}

fn expected(bytes: &[u8]) -> (Vec<String>, Option<LineError>) {
    let mut parts: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let unfinished = parts.pop().unwrap_or_default();
    let mut lines = Vec::new();
    for part in parts {
        if part.len() > LINE_BYTES_MAX {
            return (lines, Some(LineError::TooLong));
        }
        match std::str::from_utf8(part) {
            Ok(line) => lines.push(line.to_owned()),
            Err(_) => return (lines, Some(LineError::NotUtf8)),
        }
    }
    let error = (unfinished.len() > LINE_BYTES_MAX).then_some(LineError::TooLong);
    (lines, error)
}
