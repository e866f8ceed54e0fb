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

// The part of a plane that a workgroup has, and whether there is one.
struct Part {
    plane: u32,
    there: bool,
    first: u32,
    end: u32,
}
fn part_of(group: vec3<u32>) -> Part {
    let number = number_of(group);
    let plane = number / piece.parts;
    let first = number % piece.parts * piece.part_voxels;
    return Part(plane, plane < piece.planes, first, min(first + piece.part_voxels, piece.voxels));
}

// The neighbour of a voxel along an axis, before it (side 0) or after it, and whether there is one.
struct Neighbour {
    voxel: u32,
    there: bool,
}
const AXES = 3u;
fn neighbour(voxel: u32, axis: u32, side: u32) -> Neighbour {
    var at = voxel % piece.width;
    var extent = piece.width;
    var stride = 1u;
    if axis > 0u {
        let row = voxel / piece.width;
        at = row % piece.extent;
        extent = piece.extent;
        stride = piece.width;
        if axis > 1u {
            at = row / piece.extent;
            extent = piece.rows / piece.extent;
            stride = piece.width * piece.extent;
        }
    }
    if side == 0u {
        return Neighbour(voxel - stride, at > 0u);
    }
    return Neighbour(voxel + stride, at + 1u < extent);
}
