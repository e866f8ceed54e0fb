// distance_lines: from squares of distances along the later axes to those along one more.
//
// T²(i) = min(square of the distance to the nearest change along this axis, min over j of T²(j) + (i − j)²·step²). The j that wins
// never falls as i grows: the middle of a line is searched first, then the middles of its halves between the winners found, down
// to every eighth place; the places between share the range between two winners. 32 neighbouring lines share ranges. Rows are
// taken four at a time: ranges are those of such chunks.
//
// reads   f32 [transforms, V], negative in the class: from memory once, from the caches again; labels, where one transform serves all
// writes  f32 [transforms, V], or in the last pass the maps
// launch  grid (tiles of 32 lines × transforms, 1, 1) and no more than fit, block 256, or a warp for each 8 places of a shorter line; dynamic shared memory
//         for the tables of 32 lines, or none where the host gives memory for them
// determinism  run_to_run: minima alone, no two threads write the same element
// twins   kernels/wgsl/distance_lines.wgsl, src/cpu/distance/envelope.rs
#include "distance.cuh"

// Places from one whose winners are looked for to the next.
static constexpr int GROUP = 8;
// Rows of a chunk, and chunks of a word.
static constexpr int LOG2_ROWS = 2, ROWS = 1 << LOG2_ROWS, CHUNKS = WARP / ROWS;
// Chunks of a range from which on it pays to look for a bound on the distance first, and up to which it does not pay to part it.
static constexpr int WIDE = 8, NARROW = 3;
// Places of a group are GROUP/2 from the one whose bound serves all, so that what bounds them is GROUP farther; and two for rounding.
static constexpr int MARGIN = GROUP + 2;

__device__ __forceinline__ int least_of_warp(int x) {
    for (int step = WARP / 2; step > 0; step /= 2) x = min(x, __shfl_xor_sync(WHOLE_WARP, x, step));
    return x;
}
__device__ __forceinline__ int most_of_warp(int x) { return -least_of_warp(-x); }

// Short lines have few groups, and no more warps than those.
__device__ __forceinline__ int warps() { return int(blockDim.x) / WARP; }

// Where the values of each warp's words begin and end.
__device__ __forceinline__ int *ends_of_warps() {
    __shared__ int ends[2 * WARPS];
    return ends;
}

template <bool LONG> struct PlaceOf {
    using Type = int;
};
template <> struct PlaceOf<false> {
    using Type = unsigned short;
};

// Some lines of a transform that lie side by side, one per lane; all warps share the places.
template <bool LONG> struct Lines {
    // Places of lines whose tables lie in shared memory fit two bytes.
    using Place = typename PlaceOf<LONG>::Type;
    static constexpr int NO_CHANGE = LONG ? 0x7fffffff : 0xffff;
    // Words of a place in the tables by word.
    static constexpr int TABLES = 2 + 2 * int(sizeof(Place)) / int(sizeof(u32));

    const Transform &p;
    // The line of this lane: its first square, and the first voxel.
    const float *line;
    u64 voxel, stride;
    int extent, words, groups;
    // The chunks with rows that have a value lie between these; none where the first is beyond the last.
    int first_chunk, last_chunk;
    // Whether one of the lines changes sides.
    bool is_changing;

    __device__ __forceinline__ Lines(const Transform &p) : p(p), stride(p.inner), extent(int(p.extent)) {
        words = (extent + WARP - 1) / WARP;
        groups = extent / GROUP;
        for (int at = thread(); at < 2 * places_of(words + 1); at += int(blockDim.x)) squares()[at] = square_of(p, float(at - centre()));
    }

    // The tables of a block lie one after the other in shared memory, or where an axis is too long for that in memory of the host.
    __device__ __forceinline__ static constexpr int places_of(int words) { return words * WARP; }
    template <class T> __device__ __forceinline__ T *table(int at) const {
        if constexpr (LONG) return reinterpret_cast<T *>(p.tables + blockIdx.x * p.table_bytes) + at;
        else return reinterpret_cast<T *>(shared) + at;
    }
    // By word of 32 places and lane: places that differ from the one before, places of the class, the last change before the word and
    // the first one after it.
    __device__ __forceinline__ u32 &changes(int at) const { return *table<u32>(at); }
    __device__ __forceinline__ u32 &insides(int at) const { return *table<u32>(places_of(words) + at); }
    __device__ __forceinline__ Place &before(int at) const { return table<Place>(2 * places_of(words) * int(sizeof(u32) / sizeof(Place)))[at]; }
    __device__ __forceinline__ Place &after(int at) const { return before(places_of(words) + at); }
    // The squares of steps from a place to a row, at `centre` none. A chunk begins 4c − 8g + 1 steps from the last place before a group:
    // four squares from there on are aligned.
    __device__ __forceinline__ float *squares() const { return table<float>(TABLES * places_of(words)); }
    __device__ __forceinline__ int centre() const { return places_of(words + 1) - 1; }
    // By group: the chunks in which winners lie, with one more at both ends.
    __device__ __forceinline__ int &low(int group) const { return *table<int>(TABLES * places_of(words) + 2 * places_of(words + 1) + group); }
    __device__ __forceinline__ int &high(int group) const { return low(groups + 2 + group); }

    // Of the rows of a chunk, the squares of the steps from place i, the last before a group.
    __device__ __forceinline__ float4 squares_of(int chunk, int i) const {
        return *reinterpret_cast<const float4 *>(squares() + centre() + (chunk * ROWS - i));
    }

    __device__ __forceinline__ float square(int i) const { return fabsf(__ldg(line + i * stride)); }

    // The signed squares of a chunk of rows, the first of which is at `at`; ∞ beyond the end.
    __device__ __forceinline__ void load_chunk(const float *at, int chunk, float (&values)[ROWS]) const {
        if ((chunk + 1) * ROWS <= extent) {
            each<ROWS>([&](auto u) {
                values[u] = __ldg(at);
                at += stride;
            });
        } else {
            each<ROWS>([&](auto u) {
                values[u] = chunk * ROWS + u < extent ? __ldg(at) : INFINITE;
                at += stride;
            });
        }
    }

    // Of a word of places: which are of the class, and which chunks of rows have values.
    __device__ __forceinline__ void load_word(int word, u32 &inside, u32 &chunks) const {
        inside = chunks = 0;
        const int end = min((word + 1) * CHUNKS, (extent + ROWS - 1) / ROWS);
        const float *at = line + u64(end * ROWS) * stride;
#pragma unroll 2
        for (int chunk = end - 1; chunk >= word * CHUNKS; --chunk) {
            at -= ROWS * stride;
            float values[ROWS];
            load_chunk(at, chunk, values);
            float least = INFINITE;
            each<ROWS>([&](auto u) {
                inside = __funnelshift_l(__float_as_uint(values[ROWS - 1 - u]), inside, 1);
                least = fminf(least, fabsf(values[u]));
            });
            // Numbers are less than ∞ in the order of their bits.
            chunks = __funnelshift_l(__float_as_uint(least) - __float_as_uint(INFINITE), chunks, 1);
        }
    }
    // Of a word of places: where the label changes, and which have distances in the one map.
    __device__ __forceinline__ void load_labels(int begin, int count, u64 first_label, u32 &changed, u32 &inside) const {
        changed = inside = 0;
        with_labels(p.field.type, [&](auto type) {
            u64 at = first_label + u64(begin) * stride;
            int last = label_of<type>(p.field, begin > 0 ? at - stride : at);
#pragma unroll 1
            for (int bit = 0; bit < count; ++bit) {
                const int own = label_of<type>(p.field, at);
                changed |= u32(own != last) << bit;
                if (p.is_last && p.one_map) inside |= u32(has_distance(p, own)) << bit;
                last = own;
                at += stride;
            }
        });
    }

    // The tables of words, and which rows have a value. Ends with a barrier.
    __device__ __forceinline__ void load(u64 first_label) {
        int *firsts = ends_of_warps(), *lasts = firsts + WARPS;
        first_chunk = NO_PLACE_AFTER, last_chunk = NO_PLACE_BEFORE;
        u32 some = 0;
        for (int word = warp(); word < words; word += warps()) {
            const int begin = word * WARP, count = min(WARP, extent - begin);
            u32 inside, chunks, changed;
            load_word(word, inside, chunks);
            if (p.of_labels) {
                load_labels(begin, count, first_label, changed, inside);
            } else {
                const u32 last = begin > 0 ? __float_as_uint(__ldg(line + u64(begin - 1) * stride)) >> 31 : inside & 1;
                changed = (inside ^ (inside << 1 | last)) & up_to(count - 1);
            }
            some |= changed;
            changes(word * WARP + lane()) = changed;
            insides(word * WARP + lane()) = inside;
            // A row has a value on all lines or on none.
            if (chunks != 0) {
                first_chunk = min(first_chunk, word * CHUNKS + lowest(chunks));
                last_chunk = word * CHUNKS + highest(chunks);
            }
        }
        if (lane() == 0) firsts[warp()] = first_chunk, lasts[warp()] = last_chunk;
        is_changing = __syncthreads_or(some != 0);
        first_chunk = least_of_warp(lane() < warps() ? firsts[lane()] : NO_PLACE_AFTER);
        last_chunk = most_of_warp(lane() < warps() ? lasts[lane()] : NO_PLACE_BEFORE);
        if (warp() == 0) {
            int place = NO_CHANGE;
            for (int word = 0; word < words; ++word) {
                before(word * WARP + lane()) = Place(place);
                const u32 changed = changes(word * WARP + lane());
                place = changed != 0 ? word * WARP + highest(changed) : place;
            }
            if (lane() == 0) low(0) = first_chunk, high(groups + 1) = last_chunk;
        }
        if (warp() == warps() - 1) {
            int place = NO_CHANGE;
            for (int word = words - 1; word >= 0; --word) {
                after(word * WARP + lane()) = Place(place);
                const u32 changed = changes(word * WARP + lane());
                place = changed != 0 ? word * WARP + lowest(changed) : place;
            }
        }
        __syncthreads();
    }

    // The squares of the distances along this axis alone, of COUNT places of a word from i on.
    template <int COUNT> __device__ __forceinline__ void boundaries(int i, float (&best)[COUNT]) const {
        if (!is_changing) {
            each<COUNT>([&](auto k) { best[k] = INFINITE; });
            return;
        }
        const int at = i / WARP * WARP + lane(), bit = i % WARP;
        const u32 changed = changes(at), lower = changed & ((1u << bit) - 1), own = changed >> bit, upper = own >> (COUNT - 1) >> 1;
        const int last = lower != 0 ? i - bit + highest(lower) : int(before(at));
        const int next = upper != 0 ? i + COUNT + lowest(upper) : int(after(at));
        float back = last != NO_CHANGE ? float(i - last) : INFINITE;
        float on = next != NO_CHANGE ? float(next - i - COUNT) : INFINITE;
        if (!__any_sync(WHOLE_WARP, own << (WARP - COUNT))) {
            each<COUNT>([&](auto k) { best[k] = square_of(p, fminf(back + float(k + 1), on + float(COUNT - k))); });
            return;
        }
        each<COUNT>([&](auto k) {
            back = own >> k & 1 ? 1.0f : back + 1.0f;
            best[k] = back;
        });
        each<COUNT>([&](auto k) {
            constexpr int PLACE = COUNT - 1 - k;
            on = k == 0 ? on + 1.0f : own >> (PLACE + 1) & 1 ? 1.0f : on + 1.0f;
            best[PLACE] = square_of(p, fminf(best[PLACE], on));
        });
    }

    // The chunks between two winners, as far as they can matter to place i, where `bound` is one on the square, and to its group.
    __device__ __forceinline__ void range(int &from, int &to, int i, float bound) const {
        const int slack = (p.slack + ROWS - 1) / ROWS;
        from = max(from - slack, first_chunk);
        to = min(to + slack, last_chunk);
        if (to - from < WIDE) return;
        const int near = min(max(i, from * ROWS), min(to * ROWS + ROWS, extent) - 1);
        bound = fminf(bound, __fadd_rn(square(near), square_of(p, float(near - i))));
        // A distance grows by no more than a step from place to place. Squares are not negative, and so in the order of their bits.
        const float largest = __int_as_float(most_of_warp(__float_as_int(bound)));
        const int reach = int(fminf(__fsqrt_rn(largest) * p.per_step, float(extent))) + MARGIN;
        from = max(from, (i - reach) >> LOG2_ROWS);
        to = min(to, (i + reach) >> LOG2_ROWS);
    }

    // Calls the body with each chunk of a range, and its signed squares.
    template <class Body> __device__ __forceinline__ void each_chunk(int from, int to, Body body) const {
        const float *at = line + u64(from * ROWS) * stride;
#pragma unroll 1
        for (int chunk = from; chunk <= to; ++chunk) {
            float values[ROWS];
            load_chunk(at, chunk, values);
            each<ROWS>([&](auto u) { values[u] = fabsf(values[u]); });
            body(chunk, values);
            at += ROWS * stride;
        }
    }

    // Where the winners of every GROUP-th place lie. Places are counted from 1, so that 0 and what is beyond are the ends.
    __device__ __forceinline__ void search() {
        int half = 1;
        while (2 * half <= groups) half *= 2;
        for (; half > 0; half /= 2) {
            for (int at = half * (1 + 2 * warp()); at <= groups; at += 2 * half * warps()) {
                const int i = at * GROUP - 1;
                int from = low(at - half), to = high(min(at + half, groups + 1));
                int lowest_winner = from, highest_winner = to;
                if (to - from >= NARROW) {
                    float best[1];
                    boundaries<1>(i, best);
                    range(from, to, i, best[0]);
                    int winner = -1;
                    each_chunk(from, to, [&](int chunk, const float (&values)[ROWS]) {
                        const float4 across = squares_of(chunk, i);
                        const float least = fminf(fminf(__fadd_rn(values[0], across.x), __fadd_rn(values[1], across.y)),
                                                  fminf(__fadd_rn(values[2], across.z), __fadd_rn(values[3], across.w)));
                        winner = least < best[0] ? chunk : winner;
                        best[0] = fminf(least, best[0]);
                    });
                    // Where no row won, the boundary did, and rows beyond it do not matter to the places beyond i.
                    lowest_winner = highest_winner = winner;
                    if (__any_sync(WHOLE_WARP, winner < 0)) {
                        const int reach = int(fminf(__fsqrt_rn(best[0]) * p.per_step + 2.0f, float(extent)));
                        lowest_winner = winner >= 0 ? winner : (i - reach) >> LOG2_ROWS;
                        highest_winner = winner >= 0 ? winner : (i + reach) >> LOG2_ROWS;
                    }
                    lowest_winner = least_of_warp(lowest_winner);
                    highest_winner = most_of_warp(highest_winner);
                }
                if (lane() == 0) low(at) = lowest_winner, high(at) = highest_winner;
            }
            __syncthreads();
        }
    }

    // The squares of a group.
    __device__ __forceinline__ void solve(int group, float (&best)[GROUP]) const {
        const int i = group * GROUP;
        boundaries<GROUP>(i, best);
        if (first_chunk > last_chunk) return;
        int from = low(group), to = high(group + 1);
        const int middle = min(i + GROUP / 2, extent - 1);
        float bound = INFINITE;
        each<GROUP>([&](auto k) { if (i + k == middle) bound = best[k]; });
        range(from, to, middle, bound);
        each_chunk(from, to, [&](int chunk, const float (&values)[ROWS]) {
            // Those of place i + k begin ROWS·2 − 1 − k after the first.
            float across[3 * ROWS];
            each<3>([&](auto m) {
                const float4 four = squares_of(chunk + m - 2, i - 1);
                across[ROWS * m] = four.x, across[ROWS * m + 1] = four.y, across[ROWS * m + 2] = four.z, across[ROWS * m + 3] = four.w;
            });
            each<ROWS>([&](auto u) {
                each<GROUP>([&](auto k) { best[k] = fminf(best[k], __fadd_rn(values[u], across[u - k + GROUP - 1])); });
            });
        });
    }
};

template <bool LONG> __device__ __forceinline__ void run(const Transform &p) {
    const u64 tiles = (p.inner + WARP - 1) / WARP, outer = p.voxels / (p.extent * p.inner);
    const u64 tasks = p.count * outer * tiles;
    Lines<LONG> lines(p);
    for (u64 task = blockIdx.x; task < tasks; task += gridDim.x) {
        const u64 number = task / (outer * tiles), slice = task / tiles % outer, column = task % tiles * WARP + lane();
        const bool there = column < p.inner;
        const Which which(p, number);
        lines.voxel = slice * p.extent * p.inner + (there ? column : p.inner - 1);
        lines.line = reinterpret_cast<const float *>(p.from) + number * p.voxels + lines.voxel;
        lines.load(which.sample * p.voxels + lines.voxel);
        if (lines.first_chunk <= lines.last_chunk) lines.search();
        for (int group = warp(); group * GROUP < lines.extent; group += warps()) {
            float best[GROUP];
            lines.solve(group, best);
            const u32 inside = lines.insides(group * GROUP / WARP * WARP + lane()) >> (group * GROUP % WARP);
            const int i = group * GROUP;
            emit<GROUP>(p, number, which, lines.voxel + i * p.inner, p.inner, best, inside, there ? lines.extent - i : 0);
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) distance_lines(const Transform p) {
    if (p.tables != 0) run<true>(p);
    else run<false>(p);
}
