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
    let part = number_of(group);
    let plane = part / piece.parts;
    let there = plane < piece.planes;
    let first = part % piece.parts * piece.part_voxels;
    let end = min(first + piece.part_voxels, piece.voxels);
    let half = double_from_f32(bitcast<u32>(-0.5 * f32(piece.cross)));
    var own = NO_SUM;
    for (var voxel = first + thread; there && voxel < end; voxel += 256u) {
        var sum = half;
        for (var k = 0u; k < CROSS; k++) {
            let next = neighbour(voxel, k);
            if next.there {
                sum = double_add(sum, value(plane, next.voxel));
            }
        }
        sums[plane * piece.voxels + voxel] = sum;
        let left = left_of(sum);
        own = extremes_of_both(own, vec4<u32>(left, left));
    }
    own = extremes_of_group(own, thread);
    if thread == 0u && there {
        extremes[part] = own;
    }
}
