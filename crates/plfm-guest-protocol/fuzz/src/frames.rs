//! Frames: any split of a stream gives the same frames, and encoding them gives the same bytes.

use plfm_guest_protocol::{
    ExecControl, ExecExit, FRAME_BYTES_MAX, Frame, FrameDecoder, FrameError, FrameType, encode_frame,
};

use super::pieces::pieces;

/// Reads everything after the first byte, which seeds the cuts, whole and in pieces.
pub fn check(input: &[u8]) {
    let Some((seed, bytes)) = input.split_first() else {
        return;
    };
    let (frames, error) = decode(&[bytes]);
    assert_eq!(decode(&pieces(*seed, bytes)), (frames.clone(), error.clone()));
    let encoded: Vec<u8> = frames.iter().flat_map(encode).collect();
    let rest = bytes
        .strip_prefix(encoded.as_slice())
        .expect("the frames are the beginning of the stream");
    assert_eq!(error.is_some(), is_broken(rest));
    for frame in &frames {
        check_payload(frame);
    }
    let stream = encode_frame(FrameType::Stdin, bytes);
    let (frames, error) = decode(&[&stream]);
    assert_eq!(error, None);
    assert_eq!(
        frames
            .into_iter()
            .flat_map(|frame| frame.payload)
            .collect::<Vec<u8>>(),
        bytes
    );
}

/// A frame with an empty payload is taken, but never made.
fn encode(frame: &Frame) -> Vec<u8> {
    if frame.payload.is_empty() {
        vec![0, 0, 0, 1, frame.kind.byte()]
    } else {
        encode_frame(frame.kind, &frame.payload)
    }
}

fn decode(pieces: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    decoder.push(&[0, 0, 0, 1, 2]);
                    assert_eq!(
                        decoder.next_frame(),
                        Err(error.clone()),
                        "an error is the last word"
                    );
                    assert_eq!(decoder.buffered_bytes(), 0);
                    return (frames, Some(error));
                }
            }
        }
        assert!(decoder.buffered_bytes() < 4 + FRAME_BYTES_MAX);
    }
    (frames, None)
}

/// Whether what follows the last whole frame can never become a frame.
fn is_broken(rest: &[u8]) -> bool {
    let [a, b, c, d, ..] = *rest else { return false };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    length == 0 || length > FRAME_BYTES_MAX || rest.len() >= 4 + length
}

/// Control and exit frames hold JSON; what is understood survives printing.
fn check_payload(frame: &Frame) {
    match frame.kind {
        FrameType::Control => {
            if let Ok(control) = serde_json::from_slice::<ExecControl>(&frame.payload) {
                let printed = serde_json::to_vec(&control).expect("JSON");
                assert_eq!(
                    serde_json::from_slice::<ExecControl>(&printed).ok(),
                    Some(control)
                );
            }
        }
        FrameType::Exit => {
            if let Ok(exit) = serde_json::from_slice::<ExecExit>(&frame.payload) {
                let printed = serde_json::to_vec(&exit).expect("JSON");
                assert_eq!(serde_json::from_slice::<ExecExit>(&printed).ok(), Some(exit));
            }
        }
        FrameType::Stdin | FrameType::Stdout | FrameType::Stderr => {}
    }
}
