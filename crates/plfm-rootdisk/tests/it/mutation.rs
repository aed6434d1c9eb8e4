//! Any bytes as a layer: a tree or a refusal, never a panic, and nothing outside the store.

use std::sync::LazyLock;

use plfm_rootdisk::Limits;
use proptest::prelude::*;

use crate::corpus::cases;
use crate::layers::build;

/// Small enough that no try takes long.
fn limits() -> Limits {
    Limits {
        unpacked_bytes_max: 8 << 20,
        entries_max: 10_000,
        metadata_bytes_max: 4 << 20,
        ..Limits::default()
    }
}

/// Makes a header's checksum right again, so that what was changed in it is looked at.
fn mend(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

static CORPUS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let layers = cases().into_iter().flat_map(|case| case.layers);
    layers.filter(|layer| layer.len() < 300_000).collect()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_layers_are_taken_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        in_header in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut layer = which.get(&CORPUS).clone();
        for (place, byte) in changes {
            let at = place.index(layer.len());
            layer[at] = byte;
            let start = at / 512 * 512;
            if in_header && layer[start + 257..].starts_with(b"ustar") {
                mend(&mut layer[start..start + 512]);
            }
        }
        if let Some(cut) = cut {
            layer.truncate(cut.index(layer.len()));
        }
        let _ = build(&[layer], &limits());
    }

    #[test]
    fn noise_is_refused_or_an_empty_archive(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = build(&[noise], &limits());
    }
}
