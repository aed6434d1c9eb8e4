//! Cutting bytes into pieces, as a stream does.

/// Cuts `bytes` into pieces of 1 to 64 bytes, or of up to 8 KiB for an odd seed. The same seed gives the same cuts.
pub fn pieces(seed: u8, bytes: &[u8]) -> Vec<&[u8]> {
    let longest = if seed.is_multiple_of(2) { 64 } else { 8_192 };
    let (mut state, mut rest, mut pieces) = (u32::from(seed), bytes, Vec::new());
    while !rest.is_empty() {
        // The constants of Numerical Recipes' generator; the high bits are the good ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 1 + (state >> 16) as usize % longest;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
