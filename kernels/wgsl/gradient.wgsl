// gradient: ∂L/∂prediction from the coefficients of the sums.
//
// reads   prediction, target, mask, weights, map: each element once; coefficients of its sample
// writes  the gradient, each element once; it may lie in place of the prediction
// grid    x: rows of a sample, y: samples; WORKGROUP threads
// determinism  run_to_run: no two threads write the same element
#import voxel
#import slopes

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    join_team(thread);
    sample = group.y;
    load_coefficients();
    for (var run = 0u; run < window.runs; run++) {
        for (var round = 0u; round < window.rounds; round++) {
            load_voxel(start_of_round(group.x, run, round));
            activate();
            differentiate();
        }
    }
}
