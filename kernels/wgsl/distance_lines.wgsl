// distance_lines: across the rows, the least of the squares before and the squares of the ways to them.
//
// T²(i) = min(square of the distance to the nearest change along this axis, min over j of T²(j) + (i − j)²·step²). The j that wins
// never falls as i grows: the middle of a line is searched first, then the middles of its halves between the winners found, down
// to every eighth place; the places between share the range between two winners.
//
// reads   bits and planes of the piece, along lines: from memory once, from the caches again
// writes  a value for each voxel of its planes, once; tables of its lines
// grid    256 threads for some lines that lie side by side in what is written; such groups of lines
// determinism  run_to_run: minima alone, no two threads write the same element
#import distance_value
#import distance_written

@group(0) @binding(1) var<storage, read> side_bits: array<u32>;
@group(0) @binding(3) var<storage, read> planes: array<f32>;
// For each line, by word of 32 places: places that differ from the one before; in lines of several words one more than the last such
// place before the word, and the first one after it; then the winners of every GROUP-th place.
@group(0) @binding(4) var<storage, read_write> tables: array<u32>;

// Places from one whose winners are looked for to the next.
const GROUP = 8u;
// Rows of a range beyond which it pays to look for a bound on the distance first.
const WIDE = 2u * GROUP;
// Places of a group are GROUP/2 from the one whose bound serves all, so that what bounds them is GROUP farther; and two for rounding.
const MARGIN = GROUP + 2u;
// What sums are off together, as a part of the largest: `ROUNDINGS` of src/wgpu/distance.rs, each half a unit.
const ROUNDING = 12.0 / 16777216.0;
const NOWHERE = 0xffffffffu;

// The line of this thread: where its squares, what is written, its bits and its tables begin.
var<private> squares_at: u32;
var<private> written_at: u32;
var<private> bits_at: u32;
var<private> table_at: u32;

fn square_at(i: u32) -> f32 {
    return planes[squares_at + i * piece.stride * piece.from_voxel];
}
fn table(index: u32) -> u32 {
    return tables[table_at + index * piece.lines];
}
fn put_table(index: u32, value: u32) {
    tables[table_at + index * piece.lines] = value;
}
// The square of the way between two places.
fn across(i: u32, j: u32) -> f32 {
    let steps = f32(max(i, j) - min(i, j));
    return steps * steps * piece.step_squared;
}

// Of two winners that rounding alone puts in the wrong order, at places so far apart: how far, where no distance is above `steps`.
// Their sums are below 2·(steps + span)² there, and differ by 2·span for each row between them; see `slack` of the host.
fn slack_of(steps: f32, span: u32) -> u32 {
    let wide = steps + f32(span);
    return min(piece.slack, u32(min(wide * wide / f32(span) * ROUNDING, 1e9)) + 1u);
}

// The rows between two winners, of places so far from i, as far as they can matter to place i and its group.
fn range_of(low: u32, high: u32, i: u32, span: u32) -> vec2<u32> {
    if high - low < WIDE && piece.slack == 0u {
        return vec2<u32>(low, high);
    }
    var slack = piece.slack;
    var reach = piece.extent;
    let near = clamp(i, low, high);
    let square = square_at(near);
    if square < bitcast<f32>(NONE) {
        // A distance grows by no more than a step from place to place.
        let steps = sqrt(square + across(near, i)) * piece.per_step;
        slack = slack_of(steps + f32(GROUP), span);
        reach = u32(min(steps, f32(piece.extent))) + MARGIN;
    }
    let first = low - min(low, slack);
    let last = min(high + slack, piece.extent - 1u);
    return vec2<u32>(max(first, i - min(i, reach)), min(last, i + reach));
}

// The row that wins at place i; NOWHERE in a line without values.
fn winner_at(i: u32, low: u32, high: u32, span: u32) -> u32 {
    let range = range_of(low, high, i, span);
    var best = bitcast<f32>(NONE);
    var winner = NOWHERE;
    // Four rows at a time; those beyond the range are its last.
    for (var j = range.x; j <= range.y; j += 4u) {
        let rows = min(vec4<u32>(j, j + 1u, j + 2u, j + 3u), vec4<u32>(range.y));
        let squares = vec4<f32>(square_at(rows.x), square_at(rows.y), square_at(rows.z), square_at(rows.w));
        let steps = vec4<f32>(max(rows, vec4<u32>(i)) - min(rows, vec4<u32>(i)));
        let sums = squares + steps * steps * piece.step_squared;
        for (var k = 0u; k < 4u; k++) {
            // Also where there is no value, to which nothing may be added.
            if squares[k] < best && sums[k] < best {
                winner = rows[k];
                best = sums[k];
            }
        }
    }
    return winner;
}

// The square of the distance along this axis alone.
fn boundary(i: u32, changes: u32, before: u32, after: u32) -> f32 {
    let bit = i & 31u;
    let upto = NOWHERE >> (31u - bit);
    let low = changes & upto;
    let high = changes & ~upto;
    let last = select(before, i - bit + 32u - countLeadingZeros(low), low != 0u);
    let next = select(after, i - bit + countTrailingZeros(high), high != 0u);
    let steps = min(select(i + 2u - last, NOWHERE, last == 0u), select(next - i, NOWHERE, next == NOWHERE));
    let distance = f32(steps);
    return select(distance * distance * piece.step_squared, bitcast<f32>(NONE), steps == NOWHERE);
}

fn put(voxel: u32, i: u32, square: f32) {
    if i < piece.extent {
#if CHANGES
        let inside = true;
#else
        let inside = bit_of(side_bits[bits_at + i * (piece.stride / piece.width * piece.pitch)], voxel);
#endif
        write_map(written_at + i * piece.stride * piece.to_voxel, map_value(square, inside));
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let of_plane = piece.voxels / piece.extent;
    let all = piece.planes * of_plane;
    let words = (piece.extent + 31u) / 32u;
    let groups = piece.extent / GROUP;
    let around = words > 1u;
    let winners = select(words, 3u * words, around) - 1u;
    // Lines run across the rows: the bits of one are in the same place of each word.
    let row_words = piece.stride / piece.width * piece.pitch;
    let lane = thread % piece.lines;
    let worker = thread / piece.lines;
    let workers = 256u / piece.lines;
    let number = number_of(group);
    // A grid of several rows may have more workgroups than lines need.
    if number * piece.lines >= all {
        return;
    }
    let there = number * piece.lines + lane < all;
    let line = min(number * piece.lines + lane, all - 1u);
    table_at = number * piece.lines * (winners + 1u + groups) + lane;
    let here = in_plane(line, of_plane);
    let voxel = here.y / piece.stride * piece.stride * piece.extent + here.y % piece.stride;
    squares_at = element_read(here.x, voxel);
    written_at = element_written(here.x, voxel);
    bits_at = word_of(here.x, voxel);

    for (var word = worker; word < words; word += workers) {
        let begin = word * 32u;
        let count = min(32u, piece.extent - begin);
        var changes = 0u;
#if CHANGES
        for (var bit = 0u; bit < count; bit++) {
            changes |= u32(bit_of(side_bits[bits_at + (begin + bit) * row_words], voxel)) << bit;
        }
#else
        var last = bit_of(side_bits[bits_at + (max(begin, 1u) - 1u) * row_words], voxel);
        for (var bit = 0u; bit < count; bit++) {
            let own = bit_of(side_bits[bits_at + (begin + bit) * row_words], voxel);
            changes |= u32(own != last) << bit;
            last = own;
        }
#endif
        put_table(word, changes);
    }
    storageBarrier();
    if around && worker == 0u {
        var place = 0u;
        for (var word = 0u; word < words; word++) {
            put_table(words + word, place);
            let changes = table(word);
            place = select(place, word * 32u + 32u - countLeadingZeros(changes), changes != 0u);
        }
    }
    if around && worker == 1u {
        var place = NOWHERE;
        for (var word = words; word > 0u; word--) {
            put_table(2u * words + word - 1u, place);
            let changes = table(word - 1u);
            place = select(place, (word - 1u) * 32u + countTrailingZeros(changes), changes != 0u);
        }
    }

    // Places are counted from 1, so that 0 and what is beyond are the ends.
    var half = 1u;
    while 2u * half <= groups {
        half *= 2u;
    }
    for (; half > 0u; half /= 2u) {
        for (var at = half * (1u + 2u * worker); at <= groups; at += 2u * half * workers) {
            var low = 0u;
            if at > half {
                low = table(winners + at - half);
            }
            var high = piece.extent - 1u;
            if at + half <= groups {
                high = table(winners + at + half);
            }
            var winner = NOWHERE;
            if low != NOWHERE && high != NOWHERE {
                winner = winner_at(at * GROUP - 1u, low, high, half * GROUP);
            }
            put_table(winners + at, winner);
        }
        storageBarrier();
    }

    for (var turn = worker; turn * GROUP < piece.extent; turn += workers) {
        let i = turn * GROUP;
        let changes = table(i / 32u);
        var before = 0u;
        var after = NOWHERE;
        if around {
            before = table(words + i / 32u);
            after = table(2u * words + i / 32u);
        }
        var near = vec4<f32>(0.0);
        var far = vec4<f32>(0.0);
        near.x = boundary(i, changes, before, after);
        near.y = boundary(i + 1u, changes, before, after);
        near.z = boundary(i + 2u, changes, before, after);
        near.w = boundary(i + 3u, changes, before, after);
        far.x = boundary(i + 4u, changes, before, after);
        far.y = boundary(i + 5u, changes, before, after);
        far.z = boundary(i + 6u, changes, before, after);
        far.w = boundary(i + 7u, changes, before, after);
        var low = 0u;
        if turn > 0u {
            low = table(winners + turn);
        }
        var high = piece.extent - 1u;
        if turn < groups {
            high = table(winners + turn + 1u);
        }
        if low != NOWHERE && high != NOWHERE {
            let range = range_of(low, high, min(i + GROUP / 2u, piece.extent - 1u), 1u);
            for (var j = range.x; j <= range.y; j++) {
                let square = square_at(j);
                if square < bitcast<f32>(NONE) {
                    let to_near = vec4<f32>(f32(i32(j) - i32(i))) - vec4<f32>(0.0, 1.0, 2.0, 3.0);
                    let to_far = to_near - vec4<f32>(4.0);
                    near = min(near, to_near * to_near * piece.step_squared + square);
                    far = min(far, to_far * to_far * piece.step_squared + square);
                }
            }
        }
        if there {
            put(voxel, i, near.x);
            put(voxel, i + 1u, near.y);
            put(voxel, i + 2u, near.z);
            put(voxel, i + 3u, near.w);
            put(voxel, i + 4u, far.x);
            put(voxel, i + 5u, far.y);
            put(voxel, i + 6u, far.z);
            put(voxel, i + 7u, far.w);
        }
    }
}
