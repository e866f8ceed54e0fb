// distance_derive: maps of a plan from the squares of two-sided distances, which are 0 where a class has no boundary.
//
// SIGNED: d outside of the class, 1 − d in it. CLOSENESS: (M − d)/(M − min d) on either side, M the largest d of the side, 0 where
// all are the same.
//
// reads   bits and planes of the piece, and extremes
// writes  its maps, each element once; they may lie in place of the planes
// grid    256 threads for 256 voxels; voxels of the piece
// determinism  run_to_run: no two threads write the same element
#import distance

@group(0) @binding(1) var<storage, read> side_bits: array<u32>;
@group(0) @binding(2) var<storage, read_write> planes: array<f32>;
#if CLOSENESS
// See distance_extremes.
@group(0) @binding(3) var<storage, read> extremes: array<u32>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = number_of(group) * 256u + thread;
    if index >= piece.planes * piece.voxels {
        return;
    }
    let plane = index / piece.voxels;
    let voxel = index % piece.voxels;
    let square = planes[plane_read(plane) + voxel];
    let d = root(square);
    let inside = bit_of(side_bits[word_of(plane, voxel)], voxel);
#if CLOSENESS
    let side = 4u * plane + select(0u, 2u, inside);
    let least = root(bitcast<f32>(~extremes[side]));
    let most = root(bitcast<f32>(extremes[side + 1u]));
    var value = 0.0;
    if most > least {
        value = (most - d) / (most - least);
    }
#else
    let value = select(d, 1.0 - d, inside && square > 0.0);
#endif
    planes[plane_written(plane) + voxel] = value;
}
