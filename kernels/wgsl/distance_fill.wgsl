// distance_fill: each plane becomes the mean of the distances that distance_mean summed; 0 where there is none, or one is ∞.
//
// reads   partial sums of the planes
// writes  planes of the piece, each element once
// grid    256 threads for 16384 voxels of a plane; such parts, planes
// determinism  run_to_run: partial sums are added in their order
#import double_functions
#import distance

@group(0) @binding(1) var<storage, read> partials: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> written: array<u32>;

const EACH = 64u;
var<workgroup> gathered: array<vec4<u32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let parts = (piece.voxels + 256u * EACH - 1u) / (256u * EACH);
    let part = number_of(group);
    let plane = part / parts;
    let sums = (piece.rows * piece.pitch + 1023u) / 1024u;
    var total = vec4<u32>(DOUBLE_ZERO, 0u, 0u);
    if plane < piece.planes {
        for (var k = thread; k < sums; k += 256u) {
            let other = partials[plane * sums + k];
            total = vec4<u32>(double_add(total.xy, other.xy), total.z + other.z, total.w | other.w);
        }
    }
    gathered[thread] = total;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            let other = gathered[thread + half];
            let own = gathered[thread];
            gathered[thread] = vec4<u32>(double_add(own.xy, other.xy), own.z + other.z, own.w | other.w);
        }
    }
    workgroupBarrier();
    total = gathered[0];
    var mean = 0u;
    if total.z > 0u && total.w == 0u {
        mean = double_to_f32(double_div(total.xy, double_from_u32(total.z)));
    }
    if plane < piece.planes {
        for (var k = 0u; k < EACH; k++) {
            let voxel = (part % parts * EACH + k) * 256u + thread;
            if voxel < piece.voxels {
                written[plane_written(plane) + voxel] = mean;
            }
        }
    }
}
