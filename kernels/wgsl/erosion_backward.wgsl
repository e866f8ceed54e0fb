// erosion_backward: the slope of the weighted sum of eroded errors, one erosion back; at the end (OVER) by the error of each voxel, per
// weight.
//
// reads   f32 slopes by the erosion after this one, what was kept of both, what flows to its extremes; of the last erosion none (LAST)
// writes  f32 slopes by this erosion, and of each part what flows to its extremes; at the end f32 planes
// grid    256 threads for a part of a plane; parts, planes
// determinism  run_to_run: a thread adds its voxels in their order, and the threads are added as a tree of fixed form
#import erosion

@group(0) @binding(1) var<storage, read> weights_of_voxels: array<u32>;
@group(0) @binding(2) var<storage, read_write> to: array<u32>;
#if !OVER
@group(0) @binding(3) var<storage, read> kept: array<u32>;
@group(0) @binding(4) var<storage, read_write> shares: array<Shares>;
#if !LAST
@group(0) @binding(5) var<storage, read> slopes_after: array<u32>;
@group(0) @binding(6) var<storage, read> kept_after: array<u32>;
@group(0) @binding(7) var<storage, read> extremes_after: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read> shares_after: array<Shares>;
#endif
#else
@group(0) @binding(3) var<storage, read> slopes_after: array<u32>;
@group(0) @binding(4) var<storage, read> kept_after: array<u32>;
@group(0) @binding(5) var<storage, read> extremes_after: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> shares_after: array<Shares>;
#endif

// What flows to the largest and to the least voxels of a plane, doubles, and how many they are.
struct Shares {
    flows: vec4<u32>,
    counts: vec4<u32>,
}
const NOTHING = Shares(vec4<u32>(0u), vec4<u32>(0u));
var<workgroup> gathered_shares: array<Shares, 256>;

fn shares_of_group(own: Shares, thread: u32) -> Shares {
    gathered_shares[thread] = own;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            let a = gathered_shares[thread];
            let b = gathered_shares[thread + half];
            let flows = vec4<u32>(double_add(a.flows.xy, b.flows.xy), double_add(a.flows.zw, b.flows.zw));
            gathered_shares[thread] = Shares(flows, a.counts + b.counts);
        }
    }
    workgroupBarrier();
    return gathered_shares[0];
}

// A slope, or the largest number in place of an infinity, which would be NaN where p = g.
fn finite(slope: f32) -> u32 {
    let bits = bitcast<u32>(slope);
    return select(bits, (bits & 0x80000000u) | 0x7f7fffffu, (bits & 0x7fffffffu) == 0x7f800000u);
}

const LARGEST = 0x3f800000u;
const BELOW_HALF = 0x80000000u;

#if !LAST
// How the erosion after was spread, and what flows to its extremes.
struct Spread {
    of_largest: f32,
    of_least: f32,
    divisor: f32,
}
fn slope_through(spread: Spread, i: u32) -> f32 {
    let b = kept_after[i];
    if b == BELOW_HALF {
        return 0.0;
    }
    let share = select(select(0.0, spread.of_least, b == 0u), spread.of_largest, b == LARGEST);
    return (bitcast<f32>(slopes_after[i]) - share) / spread.divisor;
}
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let part = part_of(group);
    let of_plane = part.plane * piece.voxels;
#if !LAST
    var own_extremes = NO_SUM;
    var own_shares = NOTHING;
    if part.there && thread < piece.parts {
        own_extremes = extremes_after[part.plane * piece.parts + thread];
        own_shares = shares_after[part.plane * piece.parts + thread];
    }
    let all_parts = extremes_of_group(own_extremes, thread);
    let all_shares = shares_of_group(own_shares, thread);
    workgroupBarrier();
    let is_spread = is_range(all_parts);
    var of_largest = 0.0;
    var of_least = 0.0;
    var divisor = f32(piece.cross);
    if is_spread {
        divisor = bitcast<f32>(double_to_f32(double_sub(all_parts.zw, all_parts.xy)));
        of_largest = bitcast<f32>(double_to_f32(all_shares.flows.xy)) / f32(all_shares.counts.x);
        of_least = bitcast<f32>(double_to_f32(all_shares.flows.zw)) / f32(all_shares.counts.y);
    }
#endif
#if !OVER
    var sums = NOTHING;
#endif
    for (var voxel = part.first + thread; part.there && voxel < part.end; voxel += 256u) {
        var slope = 0.0;
#if !LAST
        let spread = Spread(of_largest, of_least, divisor);
        slope = slope_through(spread, of_plane + voxel);
        // As in `erosion_sums`.
        for (var axis = 0u; axis < AXES; axis++) {
            var both = 0.0;
            for (var side = 0u; side < 2u; side++) {
                let next = neighbour(voxel, axis, side);
                if next.there {
                    both += slope_through(spread, of_plane + next.voxel);
                }
            }
            slope += both;
        }
#endif
        let weight = bitcast<f32>(weights_of_voxels[part.plane / piece.maps * piece.voxels + voxel]);
#if OVER
        let weighs = (bitcast<u32>(weight) & 0x7fffffffu) != 0u;
        to[plane_written(part.plane) + voxel] = select(0u, finite(slope / weight), weighs);
#else
        slope += piece.factor * weight;
        to[of_plane + voxel] = finite(slope);
        let bits = kept[of_plane + voxel];
        let b = bitcast<f32>(bits);
        let to_largest = double_add(sums.flows.xy, double_from_f32(bitcast<u32>(slope * b)));
        let to_least = double_add(sums.flows.zw, double_from_f32(bitcast<u32>(slope * (1.0 - b))));
        let is_least = (bits & 0x7fffffffu) == 0u;
        let counts = vec4<u32>(select(0u, 1u, bits == LARGEST), select(0u, 1u, is_least), 0u, 0u);
        sums = Shares(vec4<u32>(to_largest, to_least), sums.counts + counts);
#endif
    }
#if !OVER
    sums = shares_of_group(sums, thread);
    if thread == 0u && part.there {
        shares[number_of(group)] = sums;
    }
#endif
}
