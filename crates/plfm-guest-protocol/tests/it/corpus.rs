//! The corpus of the fuzz targets, replayed with the toolchain at hand.

use std::path::Path;

use plfm_guest_protocol::{FrameType, encode_frame};
use proptest::prelude::*;

#[path = "../../fuzz/src/lib.rs"]
pub mod fuzz;

fn replay(target: &str) -> usize {
    let (_, check) = fuzz::TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .unwrap();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if let Err(panic) = std::panic::catch_unwind(|| check(&bytes)) {
            panic!(
                "{} shows a bug: {:?}",
                path.display(),
                panic.downcast_ref::<String>()
            );
        }
        count += 1;
    }
    count
}

#[test]
fn every_target_holds_on_its_corpus() {
    for (target, _) in fuzz::TARGETS {
        assert!(replay(target) >= 4, "{target} has no corpus");
    }
}

#[test]
fn every_corpus_and_every_dictionary_has_a_target() {
    let fuzz_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for part in ["corpus", "dictionaries", "fuzz_targets"] {
        let mut names: Vec<String> = std::fs::read_dir(fuzz_dir.join(part))
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        assert_eq!(names, fuzz::TARGETS.map(|(name, _)| name), "{part}");
    }
}

#[test]
fn the_corpus_stays_under_100_kb() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let files = fuzz::TARGETS
        .into_iter()
        .flat_map(|(target, _)| std::fs::read_dir(corpus.join(target)).unwrap());
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 100_000, "{bytes} bytes");
}

proptest! {
    #[test]
    fn every_target_holds_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (_, check) in fuzz::TARGETS {
            check(&bytes);
        }
    }

    /// Good frames, JSON or not in them, and then anything: what the target checks of a stream.
    #[test]
    fn frames_and_what_follows_them_hold(
        seed: u8,
        frames in proptest::collection::vec((0usize..5, proptest::collection::vec(any::<u8>(), 1..300)), 0..8),
        json: bool,
        junk in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let kinds = [FrameType::Stdin, FrameType::Stdout, FrameType::Stderr, FrameType::Control, FrameType::Exit];
        let mut stream = vec![seed];
        for (kind, payload) in frames {
            stream.extend(encode_frame(kinds[kind], &payload));
        }
        if json {
            stream.extend(encode_frame(FrameType::Control, b"{\"type\":\"resize\",\"rows\":1,\"cols\":2}"));
            stream.extend(encode_frame(FrameType::Exit, b"{\"signal\":9}"));
        }
        stream.extend(junk);
        fuzz::frames::check(&stream);
    }
}
