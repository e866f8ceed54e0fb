// distance_emit: maps of f16, or interleaved, from planes of squares.
//
// reads   bits and planes of the piece
// writes  its maps, each element once; two halves share a word
// grid    256 threads for 256 elements, in the order of the maps
// determinism  run_to_run: no two threads write the same element
#import distance_value
#import distance_written

@group(0) @binding(1) var<storage, read> side_bits: array<u32>;
@group(0) @binding(2) var<storage, read> planes: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = number_of(group) * 256u + thread;
    if index >= piece.planes * piece.voxels {
        return;
    }
#if INTERLEAVED
    let sample = index / (piece.maps * piece.voxels);
    let voxel = index / piece.maps % piece.voxels;
    let map = index % piece.maps;
    let plane = sample * piece.maps + map;
    let to = piece.to_base + sample * piece.to_sample + voxel * piece.to_maps + map;
#else
    let plane = index / piece.voxels;
    let voxel = index % piece.voxels;
    let to = plane_written(plane) + voxel;
#endif
    let value = map_value(planes[plane_read(plane) + voxel], bit_of(side_bits[word_of(plane, voxel)], voxel));
    write_map(to, value);
}
