// reduce: every sum of the plan in one read of prediction and target; with CENSUS, of the target alone.
//
// reads   prediction, target, mask, weights, map: each element once
// writes  its row of partial sums in the workspace, as doubles
// grid    x: rows of a sample, y: samples; WORKGROUP threads
// determinism  run_to_run: the grid, the runs and the trees follow from the shape
#import voxel
#import sums

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
    for (var run = 0u; run < window.runs; run++) {
        clear_sums();
        for (var round = 0u; round < window.rounds; round++) {
            load_voxel(start_of_round(group.x, run, round));
#if !CENSUS
            activate();
#endif
            accumulate();
        }
        flush_sums(group.x, thread, run == 0u);
    }
}
