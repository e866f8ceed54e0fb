// distance_objects: the connected components of the foreground, as a forest of voxels in which each tree is an object and its root the
// object's first voxel; then the two nearest objects of each voxel as far as it is in some.
//
// A dispatch for each step: BEGIN lets the voxels of a run point to its first, JOIN joins the trees of neighbours, GATHER writes what a voxel is
// in. Only a root is made to point elsewhere, to a number below its own, so every path falls and ends at the least voxel of the
// component, whoever comes first. Where classes exclude each other (EXCLUSIVE) a sample has one plane of trees, else one per class.
//
// reads   bits of the piece, all planes of a sample once where classes exclude each other; the forest
// writes  the forest, and which plane of bits a voxel is in; four words per voxel, see distance_nearest
// grid    256 threads for 256 voxels; voxels of the planes of trees, or of the samples to gather
// determinism  run_to_run: paths differ from run to run, their ends do not
#import distance_two

#if GATHER
@group(0) @binding(1) var<storage, read_write> forest: array<atomic<u32>>;
@group(0) @binding(2) var<storage, read_write> written: array<vec4<u32>>;
#else
@group(0) @binding(1) var<storage, read> side_bits: array<u32>;
@group(0) @binding(2) var<storage, read_write> forest: array<atomic<u32>>;
#if EXCLUSIVE
// The plane of bits of each voxel that is in an object. BEGIN looks for it.
@group(0) @binding(3) var<storage, read_write> planes_of_voxels: array<u32>;
#endif
#endif

// Planes of trees of a sample.
fn trees() -> u32 {
#if EXCLUSIVE
    return 1u;
#else
    return piece.maps;
#endif
}
#if !GATHER
// The voxel of a sample in a plane of bits.
fn is_of(plane: u32, voxel: u32) -> bool {
    return bit_of(side_bits[word_of(plane, voxel)], voxel);
}
#endif

#if !BEGIN
// Trees of the sample at hand begin here.
var<private> first_tree: u32;

fn root_of(start: u32) -> u32 {
    var voxel = start;
    var parent = atomicLoad(&forest[first_tree + voxel]);
    while parent != voxel {
        let next = atomicLoad(&forest[first_tree + parent]);
        // Halves the path for those that come after.
        if next != parent {
            atomicMin(&forest[first_tree + voxel], next);
        }
        voxel = parent;
        parent = next;
    }
    return voxel;
}
#endif

#if JOIN
fn join(one: u32, other: u32) {
    var a = root_of(one);
    var b = root_of(other);
    while a != b {
        let low = min(a, b);
        let high = max(a, b);
        let result = atomicCompareExchangeWeak(&forest[first_tree + high], high, low);
        if result.exchanged {
            return;
        }
        // Another thread was first.
        a = root_of(result.old_value);
        b = low;
    }
}

// Whether the voxel of a row, given by row and place, is in a plane of bits; beyond the borders lies none.
fn is_there(plane: u32, slice: i32, line: i32, x: i32) -> bool {
    let height = i32(piece.extent);
    if slice < 0 || line < 0 || line >= height || x < 0 || x >= i32(piece.width) {
        return false;
    }
    return is_of(plane, u32(slice * height + line) * piece.width + u32(x));
}

fn join_neighbours(plane: u32, number: u32, voxel: u32) {
    let height = i32(piece.extent);
    let row = i32(voxel / piece.width);
    let x = i32(voxel % piece.width);
    let slice = row / height;
    let line = row % height;
    let follows = is_there(plane, slice, line, x - 1);
    if follows {
        join(number, number - 1u);
    }
    // Of the voxels around this one, those of rows before its own.
    for (var step = 0; step < 4; step++) {
        let other_slice = select(slice - 1, slice, step == 3);
        let other_line = select(line + step - 1, line - 1, step == 3);
        var before = is_there(plane, other_slice, other_line, x - 2);
        for (var other = x - 1; other <= x + 1; other++) {
            let here = is_there(plane, other_slice, other_line, other);
            // Where both follow their neighbour in the row, those two were joined.
            if here && !(follows && before) {
                let back = ((slice - other_slice) * height + line - other_line) * i32(piece.width) + x - other;
                join(number, number - u32(back));
            }
            before = here;
        }
    }
}
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = number_of(group) * 256u + thread;
    let samples = piece.planes / piece.maps;
#if GATHER
    if index >= samples * piece.voxels {
        return;
    }
    let sample = index / piece.voxels;
    let voxel = index % piece.voxels;
    first_tree = sample * trees() * piece.voxels;
    var two = nothing();
    for (var tree = 0u; tree < trees(); tree++) {
        let number = tree * piece.voxels + voxel;
        if atomicLoad(&forest[first_tree + number]) != NO_OBJECT {
            two = nearer(two, 0.0, root_of(number));
        }
    }
    written[index] = packed(two);
#else
    if index >= samples * trees() * piece.voxels {
        return;
    }
    let sample = index / piece.voxels / trees();
    let tree = index / piece.voxels % trees();
    let voxel = index % piece.voxels;
    let number = tree * piece.voxels + voxel;
#if BEGIN
    var plane = sample * piece.maps + tree;
#if EXCLUSIVE
    for (var map = 0u; map < piece.maps; map++) {
        if is_of(sample * piece.maps + map, voxel) {
            plane = sample * piece.maps + map;
        }
    }
    planes_of_voxels[index] = plane;
#endif
    let word = side_bits[word_of(plane, voxel)];
    if !bit_of(word, voxel) {
        atomicStore(&forest[index], NO_OBJECT);
        return;
    }
    // The voxels of the word before this one that are not of the class.
    let bit = (voxel % piece.width) & 31u;
    let gaps = ~word & (0xffffffffu >> (31u - bit));
    let start = 32u - countLeadingZeros(gaps);
    atomicStore(&forest[index], number - (bit - start));
#else
    first_tree = sample * trees() * piece.voxels;
    if atomicLoad(&forest[index]) == NO_OBJECT {
        return;
    }
#if EXCLUSIVE
    let plane = planes_of_voxels[index];
#else
    let plane = sample * piece.maps + tree;
#endif
    join_neighbours(plane, number, voxel);
#endif
#endif
}
