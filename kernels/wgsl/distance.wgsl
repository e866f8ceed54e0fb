// What the kernels of distance maps share: the part of the work that a dispatch covers, and the bits that say which voxels are of
// a class.
//
// A plane is one map of one sample: f32, squares of distances until its last pass. Bits lie in rows of whole words, one set of
// rows per plane; a voxel's side of a class is its bit. Where one plane serves all classes (CHANGES), it has one set per
// axis instead: whether a voxel has another label than the one before it on the axis. Where it is the one map of some of them (CHOSEN), the
// last set says which voxels are of these. "No value" is the largest f32, which compilers that assume finite numbers leave alone; ∞ is
// written by its bits, at the end.

struct Piece {
    // Voxels of a plane, or of its slices here, and of a row, words of bits of a row, rows of a plane.
    voxels: u32,
    width: u32,
    pitch: u32,
    rows: u32,
    // Planes, and how many of them are of one sample.
    planes: u32,
    maps: u32,
    // Voxels of a line, and from one of its voxels to the next; the square of the distance between them.
    extent: u32,
    stride: u32,
    step_squared: f32,
    // Where planes are read: element of the first, and elements from sample to sample; where they are written.
    from_base: u32,
    from_sample: u32,
    to_base: u32,
    to_sample: u32,
    // From map to map and from voxel to voxel, where planes may be interleaved.
    from_map: u32,
    from_voxel: u32,
    to_map: u32,
    to_voxel: u32,
    // Word of bits at which each plane begins here, where a dispatch takes some slices of each.
    first_word: u32,
    // Element of the bound range where the source begins, and where the mask and the labels beside it do.
    source_base: u32,
    keep_base: u32,
    truths_base: u32,
    // What a value must be above.
    threshold: f32,
    // Place of the first map in the table of classes.
    first_class: u32,
    // Sets of bits of a plane, and the one that is read or written.
    bit_sets: u32,
    bit_set: u32,
    // Steps in a unit of distance, and how far a winner may be off because sums are rounded.
    per_step: f32,
    slack: u32,
    // Lines of a workgroup.
    lines: u32,
    // Of distances to objects: no square that matters is as large, no sum is larger.
    farthest: f32,
    reach: f32,
    // Of an erosion: its weight, the voxels of a cross of faces, the parts of a plane and their voxels.
    factor: f32,
    cross: u32,
    parts: u32,
    part_voxels: u32,
    // Element where the caller's weights begin.
    weights_base: u32,
    // Workgroups side by side: a grid has at most 65 535 of them a side.
    grid: u32,
}
@group(0) @binding(0) var<uniform> piece: Piece;

const NONE = 0x7f7fffffu;
const UNENDING = 0x7f800000u;

fn number_of(group: vec3<u32>) -> u32 {
    return group.y * piece.grid + group.x;
}
// Where a plane begins.
fn plane_read(plane: u32) -> u32 {
    return piece.from_base + plane / piece.maps * piece.from_sample + plane % piece.maps * piece.voxels;
}
fn plane_written(plane: u32) -> u32 {
    return piece.to_base + plane / piece.maps * piece.to_sample + plane % piece.maps * piece.voxels;
}
// A voxel of a plane, also of planes that are interleaved.
fn element_read(plane: u32, voxel: u32) -> u32 {
    let map = plane % piece.maps * piece.from_map;
    return piece.from_base + plane / piece.maps * piece.from_sample + map + voxel * piece.from_voxel;
}
fn element_written(plane: u32, voxel: u32) -> u32 {
    let map = plane % piece.maps * piece.to_map;
    return piece.to_base + plane / piece.maps * piece.to_sample + map + voxel * piece.to_voxel;
}
// Of rows or lines, so many of each plane: the plane, and the number in it. Neighbours lie side by side in what is written: they are
// of one plane, or of the maps of a voxel.
fn in_plane(number: u32, each: u32) -> vec2<u32> {
    if piece.to_voxel > 1u {
        let of_sample = each * piece.maps;
        return vec2<u32>(number / of_sample * piece.maps + number % piece.maps, number % of_sample / piece.maps);
    }
    return vec2<u32>(number / each, number % each);
}
// The first word of bits of a row of a plane.
fn words_of(plane: u32, row: u32) -> u32 {
    return words_of_set(plane, piece.bit_set, row);
}
fn words_of_set(plane: u32, set_number: u32, row: u32) -> u32 {
    return ((plane * piece.bit_sets + set_number) * piece.rows + row) * piece.pitch + piece.first_word;
}
// The word of bits of a voxel of a plane.
fn word_of(plane: u32, voxel: u32) -> u32 {
    return words_of(plane, voxel / piece.width) + voxel % piece.width / 32u;
}
fn bit_of(word: u32, voxel: u32) -> bool {
    return ((word >> ((voxel % piece.width) & 31u)) & 1u) != 0u;
}

// √x, correctly rounded, of 0 or a normal number: the built-in may be off by 2.5 units in the last place. The root of the
// significand M is R where R² − R < M ≤ R² + R; of M − R² the low word is enough, as R is nearly right.
fn root(x: f32) -> f32 {
    let raw = bitcast<u32>(x);
    if raw == 0u {
        return 0.0;
    }
    let odd = 1u - ((raw >> 23u) & 1u);
    // ⌊exponent/2⌋ + 127
    let half = (((raw >> 23u) - odd) >> 1u) + 64u;
    let significand = ((raw & 0x7fffffu) | 0x800000u) << (23u + odd);
    var r = i32(round(sqrt(x) * bitcast<f32>((277u - half) << 23u)));
    var rest = bitcast<i32>(significand - u32(r) * u32(r));
    for (var k = 0u; k < 4u; k++) {
        if rest > r {
            rest -= 2 * r + 1;
            r++;
        } else if rest <= -r {
            rest += 2 * r - 1;
            r--;
        }
    }
    return bitcast<f32>((half << 23u) | (u32(r) & 0x7fffffu));
}
