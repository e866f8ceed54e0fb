// distance_nearest: along an axis, the two nearest objects of each voxel from those of its line and the ways to them. The last pass (SUMS)
// writes the sum of the two distances.
//
// The two best of a union are the two best of the two bests, so they are found an axis at a time, as the least one of a transform is.
//
// reads   four words per voxel: squares of the distances to two objects, the lesser first, and the numbers of the objects; of each line
//         as far as it can matter
// writes  the same, or a map
// grid    256 threads for 256 voxels; voxels of the samples
// determinism  run_to_run: no two threads write the same element
#import distance_two

@group(0) @binding(1) var<storage, read> before: array<vec4<u32>>;
#if SUMS
@group(0) @binding(2) var<storage, read_write> written: array<u32>;
#else
@group(0) @binding(2) var<storage, read_write> written: array<vec4<u32>>;
#endif

fn take(two: Two, index: u32, way: f32) -> Two {
    let other = unpacked(before[index]);
    var best = two;
    // Nothing is added where there is no object: the sum might leave the numbers.
    if other.of_first != NO_OBJECT {
        best = nearer(best, other.first + way, other.of_first);
    }
    if other.of_second != NO_OBJECT {
        best = nearer(best, other.second + way, other.of_second);
    }
    return best;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = number_of(group) * 256u + thread;
    if index >= piece.planes / piece.maps * piece.voxels {
        return;
    }
    let voxel = index % piece.voxels;
    let i = voxel / piece.stride % piece.extent;
    let after = piece.extent - 1u - i;
    var two = unpacked(before[index]);
    for (var k = 1u; k <= max(i, after); k++) {
        let steps = f32(k);
        let way = steps * steps * piece.step_squared;
        // Nothing farther away can be nearer.
        if way >= two.second {
            break;
        }
        if k <= i {
            two = take(two, index - k * piece.stride, way);
        }
        if k <= after {
            two = take(two, index + k * piece.stride, way);
        }
    }
#if SUMS
    var sum = bitcast<u32>(piece.reach);
    if two.of_second != NO_OBJECT {
        sum = min(sum, bitcast<u32>(root(two.first) + root(two.second)));
    }
    written[piece.to_base + index / piece.voxels * piece.to_sample + voxel] = sum;
#else
    written[index] = packed(two);
#endif
}
