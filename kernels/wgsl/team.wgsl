// Teams of threads that share a voxel. With TEAM = 1 nothing is exchanged.
//
// In a planar layout the threads of one member follow each other, so that they read voxels side by side; in an interleaved
// layout the members of one team do, so that they read classes side by side.

const TEAMS = WORKGROUP / TEAM;
var<private> member: u32;
var<private> team: u32;

fn join_team(thread: u32) {
#if INTERLEAVED
    member = thread % TEAM;
    team = thread / TEAM;
#else
    member = thread / TEAMS;
    team = thread % TEAMS;
#endif
}

// What several sums exchange together.
var<private> packed: array<real, 4>;

#if ALONE
fn team_sum_packed() {}
fn team_sum(x: real) -> real {
    return x;
}
fn team_max(x: real) -> real {
    return x;
}
fn team_min(x: whole) -> whole {
    return x;
}
#else
var<workgroup> exchange: array<u32, WORKGROUP>;

var<workgroup> exchange_packed: array<vec4<f32>, WORKGROUP>;

// All members add in the order of the members, and so have the same bits.
fn team_sum_packed() {
    workgroupBarrier();
    exchange_packed[member * TEAMS + team] = vec4<f32>(packed[0], packed[1], packed[2], packed[3]);
    workgroupBarrier();
    var total = vec4<f32>(0.0);
    for (var m = 0u; m < TEAM; m++) {
        total += exchange_packed[m * TEAMS + team];
    }
    packed[0] = total.x;
    packed[1] = total.y;
    packed[2] = total.z;
    packed[3] = total.w;
}
fn team_sum(x: real) -> real {
    workgroupBarrier();
    exchange[member * TEAMS + team] = bitcast<u32>(x);
    workgroupBarrier();
    var total = 0.0;
    for (var m = 0u; m < TEAM; m++) {
        total += bitcast<f32>(exchange[m * TEAMS + team]);
    }
    return total;
}
fn team_max(x: real) -> real {
    workgroupBarrier();
    exchange[member * TEAMS + team] = bitcast<u32>(x);
    workgroupBarrier();
    var most = bitcast<f32>(exchange[team]);
    for (var m = 1u; m < TEAM; m++) {
        let other = bitcast<f32>(exchange[m * TEAMS + team]);
        most = select(most, other, (other > most) | is_nan(other));
    }
    return most;
}
fn team_min(x: whole) -> whole {
    workgroupBarrier();
    exchange[member * TEAMS + team] = bitcast<u32>(x);
    workgroupBarrier();
    var least = bitcast<i32>(exchange[team]);
    for (var m = 1u; m < TEAM; m++) {
        least = min(least, bitcast<i32>(exchange[m * TEAMS + team]));
    }
    return least;
}
#endif
