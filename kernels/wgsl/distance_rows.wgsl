// distance_rows: along the rows, the squares of the distances to the nearest place where the side changes.
//
// reads   bits of the piece
// writes  a value for each voxel of its planes, once
// grid    256 threads for 256 words, which is 8192 voxels where rows are whole words; words of the piece
// determinism  run_to_run: no two threads write the same element
#import distance_value

@group(0) @binding(1) var<storage, read> side_bits: array<u32>;
@group(0) @binding(2) var<storage, read_write> written: array<u32>;

const NOWHERE = 0xffffffffu;
// Of each word: which voxels differ from the one before; the last change before the word, and the first after it.
var<workgroup> changes: array<u32, 256>;
var<workgroup> sides: array<u32, 256>;
var<workgroup> before: array<u32, 256>;
var<workgroup> after: array<u32, 256>;

// Which voxels of a word of a row differ from the one before.
fn changes_of(row: u32, at: u32) -> u32 {
    let word = side_bits[row + at];
    let last = select(word, side_bits[row + max(at, 1u) - 1u] >> 31u, at > 0u) & 1u;
    let count = piece.width - at * 32u;
    return (word ^ ((word << 1u) | last)) & select(NOWHERE >> (32u - min(count, 32u)), NOWHERE, count >= 32u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let words = piece.planes * piece.rows * piece.pitch;
    let first = number_of(group) * 256u;
    if first + thread < words {
        let word = first + thread;
        let at = word % piece.pitch;
        let row = word - at;
        changes[thread] = changes_of(row, at);
        sides[thread] = side_bits[word];
        before[thread] = NOWHERE;
        after[thread] = NOWHERE;
        for (var other = at; other > 0u; other--) {
            let found = changes_of(row, other - 1u);
            if found != 0u {
                before[thread] = other * 32u - 1u - countLeadingZeros(found);
                break;
            }
        }
        for (var other = at + 1u; other < piece.pitch; other++) {
            let found = changes_of(row, other);
            if found != 0u {
                after[thread] = other * 32u + countTrailingZeros(found);
                break;
            }
        }
    }
    workgroupBarrier();
    // Neighbouring threads take neighbouring voxels.
    let lane = thread & 31u;
    for (var slot = thread / 32u; slot < 256u; slot += 8u) {
        let word = first + slot;
        let x = word % piece.pitch * 32u + lane;
        if word >= words || x >= piece.width {
            continue;
        }
        let upto = NOWHERE >> (31u - lane);
        let low = changes[slot] & upto;
        let high = changes[slot] & ~upto;
        // A change at x lies between x − 1 and x.
        let last = select(before[slot], x - lane + 31u - countLeadingZeros(low), low != 0u);
        let next = select(after[slot], x - lane + countTrailingZeros(high), high != 0u);
        let steps = min(select(x - last + 1u, NOWHERE, last == NOWHERE), select(next - x, NOWHERE, next == NOWHERE));
        let distance = f32(steps);
        let square = select(distance * distance * piece.step_squared, bitcast<f32>(NONE), steps == NOWHERE);
        let row = word / piece.pitch;
        let at = plane_written(row / piece.rows) + row % piece.rows * piece.width + x;
        written[at] = map_value(square, ((sides[slot] >> lane) & 1u) != 0u);
    }
}
