// What the kernels of eroded errors share: parts of planes, extremes of sums, crosses of faces.
//
// An erosion adds up a cross of faces, less half of its voxels; what is left above 0 is spread to [0, 1] over the plane. That is done in
// doubles, as a range of nearly nothing makes much of what was rounded before. A plane lies in parts, no more than threads.
#import double_functions
#import distance

// The least and the largest of some sums that are not negative: the bits of doubles, which are in their order then. A NaN is the largest.
const NO_SUM = vec4<u32>(0xffffffffu, 0xffffffffu, 0u, 0u);

fn extremes_of_both(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let least = select(a.xy, b.xy, wide_less(b.xy, a.xy));
    let largest = select(b.zw, a.zw, wide_less(b.zw, a.zw));
    return vec4<u32>(least, largest);
}

var<workgroup> gathered: array<vec4<u32>, 256>;

// Of all threads; each gets it.
fn extremes_of_group(own: vec4<u32>, thread: u32) -> vec4<u32> {
    gathered[thread] = own;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            gathered[thread] = extremes_of_both(gathered[thread], gathered[thread + half]);
        }
    }
    workgroupBarrier();
    return gathered[0];
}

// Whether extremes differ; a NaN differs from itself.
fn is_range(extremes: vec4<u32>) -> bool {
    return any(extremes.xy != extremes.zw) || double_is_nan(extremes.zw);
}

// What is left of a sum.
fn left_of(sum: vec2<u32>) -> vec2<u32> {
    return select(sum, DOUBLE_ZERO, double_sign(sum) != 0u);
}

// The voxel in which the k-th face of a voxel ends, and whether there is one; the voxel itself for k = 0.
struct Neighbour {
    voxel: u32,
    there: bool,
}
const CROSS = 7u;
fn neighbour(voxel: u32, k: u32) -> Neighbour {
    let x = voxel % piece.width;
    let row = voxel / piece.width;
    let y = row % piece.extent;
    let z = row / piece.extent;
    let slice = piece.width * piece.extent;
    switch k {
        case 0u: { return Neighbour(voxel, true); }
        case 1u: { return Neighbour(voxel - 1u, x > 0u); }
        case 2u: { return Neighbour(voxel + 1u, x + 1u < piece.width); }
        case 3u: { return Neighbour(voxel - piece.width, y > 0u); }
        case 4u: { return Neighbour(voxel - slice, z > 0u); }
        case 5u: { return Neighbour(voxel + piece.width, y + 1u < piece.extent); }
        default: { return Neighbour(voxel + slice, row + piece.extent < piece.rows); }
    }
}
