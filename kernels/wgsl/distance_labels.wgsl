// distance_labels: the class of each voxel that has the largest value; below 0 for none.
//
// reads   the source, once
// writes  labels of the samples of the piece, each element once
// grid    256 threads for 256 voxels; voxels of the samples of the piece
// determinism  run_to_run: no two threads write the same element
#import distance_source

@group(0) @binding(3) var<storage, read_write> labels: array<i32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = number_of(group) * 256u + thread;
    if index < piece.planes * piece.voxels {
        labels[index] = label_of(index / piece.voxels, index % piece.voxels);
    }
}
