// distance_extremes: the least and the largest square of each side of each plane.
//
// Squares are not below 0, so their bits are in their order; the least is kept as the largest complement, so that all begin as 0.
//
// reads   bits and planes of the piece, each element once
// writes  extremes: for each plane, outside and inside, the complement of the least and the largest; 0 before
// grid    256 threads for 4096 voxels of a plane; such parts, planes
// determinism  run_to_run: maxima do not depend on their order
#import distance

@group(0) @binding(1) var<storage, read> side_bits: array<u32>;
@group(0) @binding(2) var<storage, read> planes: array<u32>;
@group(0) @binding(3) var<storage, read_write> extremes: array<atomic<u32>>;

const EACH = 16u;
var<workgroup> gathered: array<atomic<u32>, 4>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let part = number_of(group);
    let parts = (piece.voxels + 256u * EACH - 1u) / (256u * EACH);
    if thread < 4u {
        atomicStore(&gathered[thread], 0u);
    }
    workgroupBarrier();
    let plane = min(part / parts, piece.planes - 1u);
    var outside = vec2<u32>(0u);
    var inside = vec2<u32>(0u);
    if part < parts * piece.planes {
        for (var k = 0u; k < EACH; k++) {
            let voxel = (part % parts * EACH + k) * 256u + thread;
            if voxel < piece.voxels {
                let square = planes[plane_read(plane) + voxel];
                let both = vec2<u32>(~square, square);
                let of_class = bit_of(side_bits[word_of(plane, voxel)], voxel);
                outside = select(max(outside, both), outside, of_class);
                inside = select(inside, max(inside, both), of_class);
            }
        }
    }
    atomicMax(&gathered[0], outside.x);
    atomicMax(&gathered[1], outside.y);
    atomicMax(&gathered[2], inside.x);
    atomicMax(&gathered[3], inside.y);
    workgroupBarrier();
    if thread < 4u {
        atomicMax(&extremes[4u * plane + thread], atomicLoad(&gathered[thread]));
    }
}
