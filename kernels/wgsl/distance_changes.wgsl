// Where the side changes along the rows.
#import distance

@group(0) @binding(1) var<storage, read> side_bits: array<u32>;

// Words of a row that a workgroup takes at a time.
const PART = 256u;
const NOWHERE = 0xffffffffu;

// The plane and the row in it of one of all rows here.
fn row_of(number: u32) -> vec2<u32> {
    return in_plane(number, piece.voxels / piece.width);
}
fn all_rows() -> u32 {
    return piece.planes * (piece.voxels / piece.width);
}

// Which voxels of a word of a row differ from the one before.
fn changes_of(row: vec2<u32>, at: u32) -> u32 {
    let first = words_of(row.x, row.y);
    let word = side_bits[first + at];
#if CHANGES
    return word;
#else
    let last = select(word, side_bits[first + max(at, 1u) - 1u] >> 31u, at > 0u) & 1u;
    let count = piece.width - at * 32u;
    return (word ^ ((word << 1u) | last)) & select(NOWHERE >> (32u - min(count, 32u)), NOWHERE, count >= 32u);
#endif
}
