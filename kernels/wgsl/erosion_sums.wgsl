// erosion_sums: sums over crosses of faces, less half of their voxels.
//
// reads   f32 errors, which are squared (FIRST), or doubles: what the erosion before left
// writes  doubles, and of each part the least and the largest of what is above 0
// grid    256 threads for a part of a plane; parts, planes
// determinism  gpu_to_gpu: doubles are integers, and extremes do not depend on an order
#import erosion

#if FIRST
@group(0) @binding(1) var<storage, read> planes: array<u32>;
#else
@group(0) @binding(1) var<storage, read> eroded: array<vec2<u32>>;
#endif
@group(0) @binding(2) var<storage, read_write> sums: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> extremes: array<vec4<u32>>;

fn value(plane: u32, voxel: u32) -> vec2<u32> {
#if FIRST
    let error = double_from_f32(planes[plane_read(plane) + voxel]);
    return double_mul(error, error);
#else
    return eroded[plane * piece.voxels + voxel];
#endif
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let part = part_of(group);
    let half = double_from_f32(bitcast<u32>(-0.5 * f32(piece.cross)));
    var own = NO_SUM;
    for (var voxel = part.first + thread; part.there && voxel < part.end; voxel += 256u) {
        // Both neighbours along an axis are added to each other first, so that mirror images have the same sums.
        var sum = value(part.plane, voxel);
        for (var axis = 0u; axis < AXES; axis++) {
            var both = DOUBLE_ZERO;
            for (var side = 0u; side < 2u; side++) {
                let next = neighbour(voxel, axis, side);
                if next.there {
                    both = double_add(both, value(part.plane, next.voxel));
                }
            }
            sum = double_add(sum, both);
        }
        sum = double_add(sum, half);
        sums[part.plane * piece.voxels + voxel] = sum;
        let left = left_of(sum);
        own = extremes_of_both(own, vec4<u32>(left, left));
    }
    own = extremes_of_group(own, thread);
    if thread == 0u && part.there {
        extremes[number_of(group)] = own;
    }
}
