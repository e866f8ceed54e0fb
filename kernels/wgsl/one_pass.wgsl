// one_pass: the sums and the gradient in one read, for plans whose coefficients need no sum over the prediction.
//
// reads   prediction, target, mask, weights, map: each element once; coefficients of its sample
// writes  its row of partial sums, as `reduce`; the gradient, each element once, which may lie in place of the prediction
// grid    x: rows of a sample, y: samples; WORKGROUP threads
// determinism  run_to_run: as `reduce` and `gradient`
#import voxel
#import sums
#import slopes

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
#if SUBGROUPS
    @builtin(subgroup_id) subgroup_id: u32,
    @builtin(num_subgroups) num_subgroups: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
#if SUBGROUPS
    join_subgroup(subgroup_id, num_subgroups, subgroup_lane);
#endif
    join_team(thread);
    sample = group.y;
    load_coefficients();
    for (var run = 0u; run < window.runs; run++) {
        clear_sums();
        for (var round = 0u; round < window.rounds; round++) {
            load_voxel(start_of_round(group.x, run, round));
            activate();
            accumulate();
            differentiate();
        }
        flush_sums(group.x, thread, run == 0u);
    }
}
