// The sums of a pass: f32 over runs of at most 64 values per lane, a fixed tree over the workgroup, and from there doubles.
//
// Each class of a slot has SUMS of them: the moments, then the hard counts. A workgroup adds its runs to its own row of the
// workspace; `combine` adds the rows.
#import double

// Values that one step of the tree adds.
const STEP = 16u;
const VALUES = SLOTS * SUMS + 2u;

var<private> sums: array<real, SLOTS * SUMS>;
// Kept voxels, labels out of range.
var<private> counted: array<real, 2>;

fn clear_sums() {
    for (var i = 0u; i < SLOTS * SUMS; i++) {
        sums[i] = real(0.0);
    }
    counted[0] = real(0.0);
    counted[1] = real(0.0);
}

#if COST
// Σ_c M[class, c]·p_c, of the voxel's own class or, with a dense target, of any.
fn cost_of(row: u32) -> f32 {
    var cost = 0.0;
#each k
        cost += select(0.0, costs[row * CLASSES + min(class_of(k), CLASSES - 1u)] * p[k], present(k));
#end
    return team_sum(cost);
}
#endif

#if HARD
// Where a class is the hard prediction.
fn predicted(slot: u32, winner: whole) -> truth {
#if HARD_ARGMAX
    return winner == whole(i32(class_of(slot)));
#else
    return p[slot] > real(0.5);
#endif
}
#endif

// Adds the voxel at hand.
fn accumulate() {
    counted[0] += select(real(0.0), real(1.0), kept);
    counted[1] += select(real(0.0), real(1.0), invalid);
#if SUM_PIXEL
#if OWN_CLASS
    let of_own = pixel_values(own_p, own_ln_p, own_q, real(0.0), real(1.0), own_map(), own_made());
#endif
#endif
#if COST
#if LABELS_TARGET
    let own_cost = cost_of(min(u32(max(own, 0)), CLASSES - 1u));
#endif
#endif
#if HARD
    var best = real(-1.0);
#each k
        best = select(best, p[k], truth(present(k)) & (p[k] > best));
#end
    best = team_max(best);
    var winner = whole(i32(CLASSES));
#each k
        winner = select(winner, min(winner, whole(i32(class_of(k)))), truth(present(k)) & (p[k] == best));
#end
    winner = team_min(winner);
    // With NaN alone there is no largest: the first class, as everywhere.
    winner = select(winner, whole(0), winner == whole(i32(CLASSES)));
#endif
#each k
        let at = k * SUMS;
        let m = select(real(0.0), weight, truth(present(k)));
#if SUM_TRUTH
        let g = g_of(k);
        let mg = m * g;
#endif
#if SUM_PREDICTION
        let mp = m * p[k];
#endif
#if SUM_N
        sums[at + AT_N] += m;
#endif
#if SUM_G
        sums[at + AT_G] += mg;
#endif
#if SUM_GG
        sums[at + AT_GG] += mg * g;
#endif
#if SUM_P
        sums[at + AT_P] += mp;
#endif
#if SUM_PG
        sums[at + AT_PG] += mp * g;
#endif
#if SUM_PP
        sums[at + AT_PP] += mp * p[k];
#endif
#if COST
#if LABELS_TARGET
        sums[at + AT_COST] += mg * own_cost;
#else
        sums[at + AT_COST] += mg * cost_of(class_of(k));
#endif
#endif
#if SUM_PIXEL
#if OWN_CLASS
        add_pixel_sums(at, m, is_own(k), of_own);
#else
#if CENSUS
        let values = pixel_values(real(0.0), real(0.0), real(0.0), real(0.0), g_of(k), map_of(k), made_of(k));
#else
        let values = pixel_values(p[k], ln_p_of(k), q_of(k), ln_q_of(k), g_of(k), map_of(k), made_of(k));
#endif
        add_pixel_sums(at, m, kept & truth(present(k)), values);
#endif
#endif
#if HARD
        let yes = predicted(k, winner);
        let real_yes = g_of(k) > real(0.5);
        let counts_here = kept & truth(present(k));
        sums[at + AT_HARD] += select(real(0.0), real(1.0), counts_here & yes & real_yes);
        sums[at + AT_HARD + 1u] += select(real(0.0), real(1.0), counts_here & yes & !real_yes);
        sums[at + AT_HARD + 2u] += select(real(0.0), real(1.0), counts_here & !yes & real_yes);
#endif
#end
}

#if SUBGROUPS
const SCRATCH = BATCH * WORKGROUP / 4u;
var<private> subgroup: u32;
var<private> subgroups: u32;
var<private> lane: u32;

fn join_subgroup(id: u32, count: u32, lane_of_thread: u32) {
    subgroup = id;
    subgroups = count;
    lane = lane_of_thread;
}
#else
const SCRATCH = BATCH * WORKGROUP;
#endif
var<workgroup> scratch: array<f32, SCRATCH>;
// What the first step of the tree leaves, where there are two.
var<workgroup> halfway: array<f32, BATCH * WORKGROUP / STEP>;

// Place of a sum in a row of the workspace: moments by class, hard counts by class, voxels.
fn place_in_row(i: u32, of_member: u32) -> u32 {
    if i >= SLOTS * SUMS {
        return ROW - 2u + (i - SLOTS * SUMS);
    }
    let c = (i / SUMS) * TEAM + of_member;
    let j = i % SUMS;
    if j < MOMENTS_HERE {
        return c * MOMENTS + j;
    }
    return CLASSES * MOMENTS + c * 3u + (j - MOMENTS_HERE);
}

// Adds a run to the row of this workgroup; the first run overwrites what the workspace held.
fn add_to_row(row: u32, i: u32, of_member: u32, total: f32, first: bool) {
    // The voxels of a team are one member's to count, and a last slot may hold no class.
    let counts = i < VALUES && select(of_member == 0u, (i / SUMS) * TEAM + of_member < CLASSES, i < SLOTS * SUMS);
    if !counts {
        return;
    }
    let at = window.rows_at + (row * ROW + place_in_row(i, of_member)) * 2u;
    var sum = double_from_f32(bitcast<u32>(total));
    if !first {
        sum = double_add(vec2<u32>(workspace[at], workspace[at + 1u]), sum);
    }
    workspace[at] = sum.x;
    workspace[at + 1u] = sum.y;
}

#if SUBGROUPS
// The sums of the threads: by subgroups, whatever their size, then over the subgroups in their order.
fn flush_sums(group: u32, thread: u32, first: bool) {
    let row = (window.first_sample + sample) * window.rows + window.first_row + group;
    for (var start = 0u; start < VALUES; start += BATCH) {
        workgroupBarrier();
        let values = values_of(start / BATCH);
        var totals: array<f32, BATCH>;
        for (var j = 0u; j < BATCH; j++) {
            totals[j] = subgroupAdd(values[j]);
        }
        if lane == 0u {
            for (var j = 0u; j < BATCH; j++) {
                scratch[j * (WORKGROUP / 4u) + subgroup] = totals[j];
            }
        }
        workgroupBarrier();
        if thread < BATCH {
            var total = 0.0;
            for (var s = 0u; s < subgroups; s++) {
                total += scratch[thread * (WORKGROUP / 4u) + s];
            }
            add_to_row(row, start + thread, 0u, total, first);
        }
    }
}
#else
// The sums of the threads that hold the same classes: in steps of at most 16 values.
fn flush_sums(group: u32, thread: u32, first: bool) {
    let row = (window.first_sample + sample) * window.rows + window.first_row + group;
    for (var start = 0u; start < VALUES; start += BATCH) {
        workgroupBarrier();
        let values = values_of(start / BATCH);
        for (var j = 0u; j < BATCH; j++) {
            scratch[j * WORKGROUP + member * TEAMS + team] = values[j];
        }
        workgroupBarrier();
#if TWO_STEPS
        for (var o = thread; o < BATCH * WORKGROUP / STEP; o += WORKGROUP) {
            var total = 0.0;
            for (var t = 0u; t < STEP; t++) {
                total += scratch[o * STEP + t];
            }
            halfway[o] = total;
        }
        workgroupBarrier();
        const LEFT = TEAMS / STEP;
#else
        const LEFT = TEAMS;
#endif
        for (var o = thread; o < BATCH * TEAM; o += WORKGROUP) {
            var total = 0.0;
            for (var t = 0u; t < LEFT; t++) {
#if TWO_STEPS
                total += halfway[o * LEFT + t];
#else
                total += scratch[o * LEFT + t];
#endif
            }
            add_to_row(row, start + o / TEAM, o % TEAM, total, first);
        }
    }
}
#endif
