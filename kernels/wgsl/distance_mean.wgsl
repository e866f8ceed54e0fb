// distance_mean: sums of the distances of the voxels of a contour to another contour, and how many voxels there are.
//
// reads   bits of contours; of the planes what lies on them: squares of distances, ∞ where there is no other contour
// writes  partial sums of each plane: a double, the voxels, and whether a distance is ∞
// grid    256 threads for 1024 words of a plane; such parts, planes
// determinism  run_to_run: a thread adds its voxels in their order, and the threads are added as a tree of fixed form
#import double
#import distance

@group(0) @binding(1) var<storage, read> side_bits: array<u32>;
@group(0) @binding(2) var<storage, read> planes: array<u32>;
@group(0) @binding(3) var<storage, read_write> partials: array<vec4<u32>>;

const EACH = 4u;
var<workgroup> gathered: array<vec4<u32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let words = piece.rows * piece.pitch;
    let parts = (words + 256u * EACH - 1u) / (256u * EACH);
    let part = number_of(group);
    let plane = part / parts;
    var sum = DOUBLE_ZERO;
    var count = 0u;
    var unending = 0u;
    if plane < piece.planes {
        for (var k = 0u; k < EACH; k++) {
            let word = (part % parts * 256u + thread) * EACH + k;
            if word >= words {
                break;
            }
            var left = side_bits[plane * words + word];
            let start = plane_read(plane) + word / piece.pitch * piece.width + word % piece.pitch * 32u;
            while left != 0u {
                let square = planes[start + countTrailingZeros(left)];
                left &= left - 1u;
                count++;
                if square >= UNENDING {
                    unending = 1u;
                } else {
                    sum = double_add(sum, double_from_f32(bitcast<u32>(root(bitcast<f32>(square)))));
                }
            }
        }
    }
    gathered[thread] = vec4<u32>(sum, count, unending);
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            let other = gathered[thread + half];
            let own = gathered[thread];
            gathered[thread] = vec4<u32>(double_add(own.xy, other.xy), own.z + other.z, own.w | other.w);
        }
    }
    if thread == 0u && plane < piece.planes {
        partials[part] = gathered[0];
    }
}
