// distance_lines: from squares of distances along the later axes to those along one more.
//
// T²(i) = min(square of the distance to the nearest change along this axis, min over j of T²(j) + (i − j)²·step²). The j that wins
// never falls as i grows: the middle of a line is searched first, then the middles of its halves between the winners found, down
// to every eighth place; the places between share the range between two winners. 32 neighbouring lines share ranges.
//
// reads   f32 [transforms, V], negative in the class: from memory once, from the caches again; labels, where one transform serves all
// writes  f32 [transforms, V], or in the last pass the maps
// launch  grid (tiles of 32 lines × transforms, 1, 1) and no more than fit, block 256, dynamic shared memory for the tables of a line,
//         or none where the host gives memory for them
// determinism  run_to_run: minima alone, no two threads write the same element
// twins   kernels/wgsl/distance_lines.wgsl, src/cpu/distance/envelope.rs
#include "distance.cuh"

// Places from one whose winners are looked for to the next.
static constexpr int GROUP = 8;
// Rows of a range beyond which it pays to look for a bound on the distance first.
static constexpr int WIDE = 2 * GROUP;
// Places of a group are GROUP/2 from the one whose bound serves all, so that what bounds them is GROUP farther; and two for rounding.
static constexpr int MARGIN = GROUP + 2;

__device__ __forceinline__ int least_of_warp(int x) {
    for (int step = WARP / 2; step > 0; step /= 2) x = min(x, __shfl_xor_sync(WHOLE_WARP, x, step));
    return x;
}
__device__ __forceinline__ int most_of_warp(int x) { return -least_of_warp(-x); }

// Some lines of a transform that lie side by side, one per lane; all warps share the places.
struct Lines {
    const Transform &p;
    // The line of this lane: its first square, and the first voxel.
    const float *line;
    u64 voxel;
    int extent, words, groups;
    // By word of 32 places and lane: places that differ from the one before, places of the class, the last change before the word and
    // the first one after it.
    u32 *changes, *insides;
    int *before, *after;
    // By group: the range in which winners lie, with one more at both ends.
    int *low, *high;
    // The rows that have a value lie between these.
    int first_row, last_row;

    __device__ __forceinline__ Lines(const Transform &p, void *tables) : p(p), extent(int(p.extent)) {
        words = (extent + WARP - 1) / WARP;
        groups = extent / GROUP;
        changes = static_cast<u32 *>(tables);
        insides = changes + words * WARP;
        before = reinterpret_cast<int *>(insides + words * WARP);
        after = before + words * WARP;
        low = after + words * WARP;
        high = low + groups + 2;
    }

    __device__ __forceinline__ float signed_square(int i) const { return __ldg(line + i * p.inner); }
    __device__ __forceinline__ float square(int i) const { return fabsf(signed_square(i)); }
    // The square of the distance from place i to row j.
    __device__ __forceinline__ float across(int j, int i) const { return square_of(p, float(j - i)); }

    // The tables of words, and which rows have a value. Ends with a barrier.
    __device__ __forceinline__ void load(u64 first_label) {
        __shared__ int firsts[WARPS], lasts[WARPS];
        int first_finite = NO_PLACE_AFTER, last_finite = NO_PLACE_BEFORE;
        for (int word = warp(); word < words; word += WARPS) {
            const int begin = word * WARP, count = min(WARP, extent - begin);
            const auto key = [&](int i, float x) {
                return p.of_labels ? label_of(p.field, first_label + i * p.inner) : int(__float_as_uint(x) >> 31);
            };
            int last = key(max(begin - 1, 0), signed_square(max(begin - 1, 0)));
            u32 changed = 0, inside = 0;
#pragma unroll 8
            for (int bit = 0; bit < count; ++bit) {
                const int i = begin + bit;
                const float x = signed_square(i);
                const int own = key(i, x);
                changed |= u32(own != last) << bit;
                inside |= (__float_as_uint(x) >> 31) << bit;
                last = own;
                if (fabsf(x) < INFINITE) {
                    first_finite = min(first_finite, i);
                    last_finite = i;
                }
            }
            changes[word * WARP + lane()] = changed;
            insides[word * WARP + lane()] = inside;
        }
        first_finite = least_of_warp(first_finite);
        last_finite = most_of_warp(last_finite);
        if (lane() == 0) firsts[warp()] = first_finite, lasts[warp()] = last_finite;
        __syncthreads();
        first_row = firsts[0], last_row = lasts[0];
        for (int other = 1; other < WARPS; ++other) first_row = min(first_row, firsts[other]), last_row = max(last_row, lasts[other]);
        if (warp() == 0) {
            int place = NO_PLACE_BEFORE;
            for (int word = 0; word < words; ++word) {
                before[word * WARP + lane()] = place;
                const u32 changed = changes[word * WARP + lane()];
                place = changed != 0 ? word * WARP + highest(changed) : place;
            }
        } else if (warp() == 1) {
            int place = NO_PLACE_AFTER;
            for (int word = words - 1; word >= 0; --word) {
                after[word * WARP + lane()] = place;
                const u32 changed = changes[word * WARP + lane()];
                place = changed != 0 ? word * WARP + lowest(changed) : place;
            }
        } else if (warp() == 2 && lane() == 0) {
            low[0] = 0;
            high[groups + 1] = extent - 1;
        }
        __syncthreads();
    }

    // The square of the distance along this axis alone.
    __device__ __forceinline__ float boundary(int i) const {
        const int at = i / WARP * WARP + lane(), bit = i % WARP;
        const u32 changed = changes[at], lower = changed & up_to(bit), upper = changed & beyond(bit);
        const int last = lower != 0 ? i - bit + highest(lower) : before[at];
        const int next = upper != 0 ? i - bit + lowest(upper) : after[at];
        const float back = last != NO_PLACE_BEFORE ? float(i - last + 1) : INFINITE;
        const float on = next != NO_PLACE_AFTER ? float(next - i) : INFINITE;
        return square_of(p, fminf(back, on));
    }

    // The rows between two winners, as far as they can matter to place i, where `bound` is one on the square, and to its group.
    __device__ __forceinline__ void range(int &from, int &to, int i, float bound) const {
        from = max(from - int(p.slack), first_row);
        to = min(to + int(p.slack), last_row);
        if (to - from < WIDE) return;
        const int near = min(max(i, from), to);
        bound = fminf(bound, __fadd_rn(square(near), across(near, i)));
        // A distance grows by no more than a step from place to place. Squares are not negative, and so in the order of their bits.
        const float largest = __int_as_float(most_of_warp(__float_as_int(bound)));
        const int reach = int(fminf(__fsqrt_rn(largest) * p.per_step, float(extent))) + MARGIN;
        from = max(from, i - reach);
        to = min(to, i + reach);
    }

    // Where the winners of every GROUP-th place lie. Places are counted from 1, so that 0 and what is beyond are the ends.
    __device__ __forceinline__ void search() {
        int half = 1;
        while (2 * half <= groups) half *= 2;
        for (; half > 0; half /= 2) {
            for (int at = half * (1 + 2 * warp()); at <= groups; at += 2 * half * WARPS) {
                const int i = at * GROUP - 1;
                int from = low[at - half], to = high[min(at + half, groups + 1)];
                float best = boundary(i);
                range(from, to, i, best);
                int winner = -1;
#pragma unroll 4
                for (int j = from; j <= to; ++j) {
                    const float sum = __fadd_rn(square(j), across(j, i));
                    winner = sum < best ? j : winner;
                    best = fminf(sum, best);
                }
                // Where no row won, the boundary did, and rows beyond it do not matter to the places beyond i.
                const int reach = int(fminf(__fsqrt_rn(best) * p.per_step + 2.0f, float(extent)));
                const int lowest_winner = least_of_warp(winner >= 0 ? winner : i - reach);
                const int highest_winner = most_of_warp(winner >= 0 ? winner : i + reach);
                if (lane() == 0) low[at] = lowest_winner, high[at] = highest_winner;
            }
            __syncthreads();
        }
    }

    // The squares of a group.
    __device__ __forceinline__ void solve(int group, float (&best)[GROUP]) const {
        const int i = group * GROUP;
        each<GROUP>([&](auto k) { best[k] = boundary(min(i + k, extent - 1)); });
        if (first_row > last_row) return;
        int from = low[group], to = high[group + 1];
        const int middle = min(i + GROUP / 2, extent - 1);
        range(from, to, middle, boundary(middle));
        // squares[m] is of the row that lies GROUP − 1 − m before place i, and of those that follow.
        float squares[2 * GROUP - 1];
        each<GROUP - 1>([&](auto m) { squares[m] = across(from + m - (GROUP - 1), i); });
        for (int j = from; j <= to; j += GROUP) {
            each<GROUP>([&](auto u) { squares[GROUP - 1 + u] = across(j + u, i); });
            float value[GROUP];
            // Rows beyond the range are candidates like others.
            each<GROUP>([&](auto u) { value[u] = square(min(j + u, extent - 1)); });
            each<GROUP>([&](auto u) {
                const float there = j + u < extent ? value[u] : INFINITE;
                each<GROUP>([&](auto k) { best[k] = fminf(best[k], __fadd_rn(there, squares[u - k + GROUP - 1])); });
            });
            each<GROUP - 1>([&](auto m) { squares[m] = squares[m + GROUP]; });
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 2) distance_lines(const Transform p) {
    void *tables = p.tables != 0 ? reinterpret_cast<void *>(p.tables + blockIdx.x * p.table_bytes) : shared;
    const u64 tiles = (p.inner + WARP - 1) / WARP, outer = p.voxels / (p.extent * p.inner);
    const u64 tasks = p.count * outer * tiles;
    Lines lines(p, tables);
    for (u64 task = blockIdx.x; task < tasks; task += gridDim.x) {
        const u64 number = task / (outer * tiles), slice = task / tiles % outer, column = task % tiles * WARP + lane();
        const bool there = column < p.inner;
        const Which which(p, number);
        lines.voxel = slice * p.extent * p.inner + (there ? column : p.inner - 1);
        lines.line = reinterpret_cast<const float *>(p.from) + number * p.voxels + lines.voxel;
        lines.load(which.sample * p.voxels + lines.voxel);
        if (lines.first_row <= lines.last_row) lines.search();
        for (int group = warp(); group * GROUP < lines.extent; group += WARPS) {
            float best[GROUP];
            lines.solve(group, best);
            const u32 inside = lines.insides[group * GROUP / WARP * WARP + lane()] >> (group * GROUP % WARP);
            each<GROUP>([&](auto k) {
                const int i = group * GROUP + k;
                if (there && i < lines.extent) emit(p, number, which, lines.voxel + i * p.inner, best[k], inside >> k & 1);
            });
        }
        __syncthreads();
    }
}
