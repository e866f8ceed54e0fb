// distance_share: the inside distances of all classes, from the squares of the transform that serves them all.
//
// reads   labels, and of each sample of the piece one plane of squares
// writes  its maps, each element once; two halves share a word
// grid    256 threads for 256 voxels; voxels of the samples of the piece
// determinism  run_to_run: no two threads write the same element
#import distance_source
#import distance_value
#import distance_written

@group(0) @binding(4) var<storage, read> planes: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = number_of(group) * 256u + thread;
    let sample = index / piece.voxels;
    let voxel = index % piece.voxels;
    if sample * piece.maps >= piece.planes {
        return;
    }
    let own = label_of(sample, voxel);
    let square = planes[piece.from_base + index];
    for (var map = 0u; map < piece.maps; map++) {
        write_map(element_written(sample * piece.maps + map, voxel), map_value(square, own == i32(class_of(map))));
    }
}
