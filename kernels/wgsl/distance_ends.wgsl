// distance_ends: of each part of a row of more than one, where its first and its last change are.
//
// reads   bits of the piece
// writes  for each part the place of its first change, and one more than that of its last; NOWHERE and 0 where there is none
// grid    256 threads for 256 words of a row; such parts, rows
// determinism  run_to_run: no two threads write the same word
#import distance_changes

@group(0) @binding(2) var<storage, read_write> ends: array<vec2<u32>>;

var<workgroup> first: atomic<u32>;
var<workgroup> last: atomic<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let parts = (piece.pitch + PART - 1u) / PART;
    let number = number_of(group);
    let row = number / parts;
    let at = number % parts * PART + thread;
    let there = row < all_rows();
    if thread == 0u {
        atomicStore(&first, NOWHERE);
        atomicStore(&last, 0u);
    }
    workgroupBarrier();
    if there && at < piece.pitch {
        let changes = changes_of(row_of(row), at);
        if changes != 0u {
            atomicMin(&first, at * 32u + countTrailingZeros(changes));
            atomicMax(&last, at * 32u + 32u - countLeadingZeros(changes));
        }
    }
    workgroupBarrier();
    if thread == 0u && there {
        ends[number] = vec2<u32>(atomicLoad(&first), atomicLoad(&last));
    }
}
