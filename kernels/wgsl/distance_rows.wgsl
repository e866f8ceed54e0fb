// distance_rows: along the rows, the squares of the distances to the nearest place where the side changes.
//
// reads   bits of the piece; of rows of more than 256 words (LONG), where the nearest changes beyond each such part are
// writes  a value for each voxel of its planes, once
// grid    256 threads for whole rows of at most 256 words together, or for 256 words of a longer row; such parts, rows
// determinism  run_to_run: no two threads write the same element
#import distance_value
#import distance_changes
#import distance_written

#if LONG
@group(0) @binding(3) var<storage, read> ends: array<vec2<u32>>;
#endif

// Of each word: which voxels differ from the one before; and counted from the first word, one more than the place of the last change
// in it or before it, and the first change in it or after it.
var<workgroup> changes: array<u32, PART>;
var<workgroup> before: array<u32, PART>;
var<workgroup> after: array<u32, PART>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let parts = (piece.pitch + PART - 1u) / PART;
    // Words of a row, and rows.
    let span = min(piece.pitch, PART);
    let each = PART / span;
    let part = number_of(group) % parts;
    let first = number_of(group) / parts * each;
    let rows = min(all_rows(), first + each);

    var own = 0u;
    if first + thread / span < rows && part * PART + thread % span < piece.pitch {
        own = changes_of(row_of(first + thread / span), part * PART + thread % span);
    }
    changes[thread] = own;
    before[thread] = select(0u, thread * 32u + 32u - countLeadingZeros(own), own != 0u);
    after[thread] = select(NOWHERE, thread * 32u + countTrailingZeros(own), own != 0u);
    for (var reach = 1u; reach < span; reach *= 2u) {
        workgroupBarrier();
        let last = before[max(thread, reach) - reach];
        let next = after[min(thread + reach, PART - 1u)];
        workgroupBarrier();
        before[thread] = max(before[thread], select(0u, last, thread >= reach));
        after[thread] = min(after[thread], select(NOWHERE, next, thread + reach < PART));
    }
#if LONG
    // Counted from the begin of the row.
    let beyond = ends[min(first, rows - 1u) * parts + part];
#endif
    workgroupBarrier();

    // Neighbouring threads take neighbouring voxels.
    let lane = thread & 31u;
    for (var slot = thread / 32u; slot < PART; slot += 8u) {
        let row = first + slot / span;
        // The first word of the row here, and the voxel in all of them and in the row.
        let begin = slot - slot % span;
        let place = slot * 32u + lane;
        let x = (part * PART + slot - begin) * 32u + lane;
        if row >= rows || x >= piece.width {
            continue;
        }
        let upto = NOWHERE >> (31u - lane);
        let low = changes[slot] & upto;
        let high = changes[slot] & ~upto;
        // A change at x lies between x − 1 and x.
        var last = slot * 32u + 32u - countLeadingZeros(low);
        if low == 0u {
            last = select(0u, before[max(slot, 1u) - 1u], slot > begin);
        }
        var next = slot * 32u + countTrailingZeros(high);
        if high == 0u {
            next = select(NOWHERE, after[min(slot + 1u, PART - 1u)], slot + 1u < begin + span);
        }
        // Those of the rows beside it are none.
        var back = select(NOWHERE, place + 2u - last, last > begin * 32u);
#if LONG
        if back == NOWHERE && beyond.y != 0u {
            back = x + 2u - beyond.y;
        }
#endif
        var on = select(NOWHERE, next - place, next < (begin + span) * 32u);
#if LONG
        if on == NOWHERE && beyond.x != NOWHERE {
            on = beyond.x - x;
        }
#endif
        let steps = min(back, on);
        let distance = f32(steps);
        var square = select(distance * distance * piece.step_squared, bitcast<f32>(NONE), steps == NOWHERE);
        let here = row_of(row);
#if CHOSEN
        // 0 from here on. What other labels have does not depend on it: between two labels there is a change, which is no farther.
        let chosen = bit_of(side_bits[words_of_set(here.x, piece.bit_sets - 1u, here.y) + x / 32u], x);
        square = select(0.0, square, chosen);
#endif
#if CHANGES
        let inside = true;
#else
        let inside = bit_of(side_bits[words_of(here.x, here.y) + x / 32u], x);
#endif
        write_map(element_written(here.x, here.y * piece.width + x), map_value(square, inside));
    }
}
