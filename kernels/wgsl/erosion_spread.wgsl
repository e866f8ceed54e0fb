// erosion_spread: what an erosion left, spread to [0, 1] over its plane.
//
// reads   the doubles and the extremes of `erosion_sums`
// writes  doubles for the next erosion; f32, kept for the way back (KEPT): −0 where the mean lies below ½, 1 where it is largest and
//         there alone; and adds its weighted part to the eroded error, an f32 plane (TOTAL)
// grid    256 threads for a part of a plane; parts, planes
// determinism  gpu_to_gpu, but for the product and sum of single precision at the end
#import erosion

@group(0) @binding(1) var<storage, read> sums: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> extremes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> eroded: array<vec2<u32>>;
#if TOTAL
@group(0) @binding(4) var<storage, read_write> planes: array<u32>;
#if KEPT
@group(0) @binding(5) var<storage, read_write> kept: array<u32>;
#endif
#else
#if KEPT
@group(0) @binding(4) var<storage, read_write> kept: array<u32>;
#endif
#endif

const BELOW_ONE = 0x3f7fffffu;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let part = part_of(group);
    var own = NO_SUM;
    if part.there && thread < piece.parts {
        own = extremes[part.plane * piece.parts + thread];
    }
    let all_parts = extremes_of_group(own, thread);
    let is_spread = is_range(all_parts);
    let shift = select(DOUBLE_ZERO, all_parts.xy, is_spread);
    let divisor = select(double_from_u32(piece.cross), double_sub(all_parts.zw, all_parts.xy), is_spread);
    for (var voxel = part.first + thread; part.there && voxel < part.end; voxel += 256u) {
        let i = part.plane * piece.voxels + voxel;
        let sum = sums[i];
        let b = double_div(double_sub(left_of(sum), shift), divisor);
        eroded[i] = b;
        var rounded = double_to_f32(b);
        if wide_less(b, DOUBLE_ONE) {
            rounded = min(rounded, BELOW_ONE);
        }
#if KEPT
        kept[i] = select(rounded, 0x80000000u, double_sign(sum) != 0u);
#endif
#if TOTAL
        let at = plane_written(part.plane) + voxel;
#if FIRST
        planes[at] = bitcast<u32>(piece.factor * bitcast<f32>(rounded));
#else
        planes[at] = bitcast<u32>(bitcast<f32>(planes[at]) + piece.factor * bitcast<f32>(rounded));
#endif
#endif
    }
}
