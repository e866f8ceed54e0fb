// distance_carry: of each part of a row of more than one, where the nearest changes beyond it are.
//
// reads   what distance_ends wrote: the first change of each part, and one more than its last
// writes  in its place the first change after the part, and one more than the last before it; NOWHERE and 0 where there is none
// grid    256 threads for a row; rows
// determinism  run_to_run: no two threads write the same word
#import distance_changes

@group(0) @binding(2) var<storage, read_write> ends: array<vec2<u32>>;

// First and last change of the parts of each thread; then of those of all threads from it on, and up to it.
var<workgroup> first: array<u32, 256>;
var<workgroup> last: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let parts = (piece.pitch + PART - 1u) / PART;
    let row = number_of(group);
    let each = (parts + 255u) / 256u;
    let there = row < all_rows();
    let begin = select(0u, row * parts + min(thread * each, parts), there);
    let end = select(0u, row * parts + min(thread * each + each, parts), there);
    var own = vec2<u32>(NOWHERE, 0u);
    for (var at = begin; at < end; at++) {
        own = vec2<u32>(min(own.x, ends[at].x), max(own.y, ends[at].y));
    }
    first[thread] = own.x;
    last[thread] = own.y;
    for (var reach = 1u; reach < 256u; reach *= 2u) {
        workgroupBarrier();
        let next = select(NOWHERE, first[min(thread + reach, 255u)], thread + reach < 256u);
        let before = select(0u, last[max(thread, reach) - reach], thread >= reach);
        workgroupBarrier();
        first[thread] = min(first[thread], next);
        last[thread] = max(last[thread], before);
    }
    workgroupBarrier();
    // What comes after from the end on, what comes before from the begin on.
    var after = select(NOWHERE, first[min(thread + 1u, 255u)], thread < 255u);
    for (var at = end; at > begin; at--) {
        let here = ends[at - 1u].x;
        ends[at - 1u].x = after;
        after = min(after, here);
    }
    var before = select(0u, last[max(thread, 1u) - 1u], thread > 0u);
    for (var at = begin; at < end; at++) {
        let here = ends[at].y;
        ends[at].y = before;
        before = max(before, here);
    }
}
