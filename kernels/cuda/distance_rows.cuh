// What `distance_rows` and `distance_rows_any` share: squares of distances along the last axis, to the nearest place where the side changes.
//
// A lane takes a *strip* of V voxels that lie side by side, 32 strips are a *span*, and a warp takes a *chunk* of some spans at a time: whole
// rows, or a part of one that is longer. What a strip needs of its own voxels follows from V + 1 bits, its *window*: the sides of the
// voxel before it and of its voxels. The windows of a lane are one word.
//
// Everything but what follows from the place of a lane is the same in all lanes of a warp, and so are all branches around shuffles.
#pragma once
#include "distance.cuh"

// Bytes of a lane that are asked for before the first is looked at.
static constexpr int BYTES_AHEAD = 32;

// The upper halves of a few floats that have nothing in the lower ones: ∞, the sign, and the numbers up to 4.
static constexpr u32 HALF_INFINITE = 0x7f80, HALF_SIGN = 0x8000;
static constexpr u32 SMALL[5] = {0, 0x3f80, 0x4000, 0x4040, 0x4080};

// By window of a strip of four: of each voxel the steps to the nearest change in the strip, two to a word, negative in the class; and the
// first and the last place of a change, ∞ and −∞ where there is none, in the upper and the lower half.
static constexpr int STRIP = 4;
struct Strip {
    u32 nearest[STRIP / 2], ends;
};
struct Strips {
    Strip of[WARP];
};
constexpr Strips strips() {
    Strips strips{};
    for (int window = 0; window < WARP; ++window) {
        Strip &strip = strips.of[window];
        u32 first = HALF_INFINITE, last = HALF_INFINITE | HALF_SIGN, steps[STRIP] = {};
        for (int change = 0; change < STRIP; ++change) {
            if ((window >> change & 1) == (window >> (change + 1) & 1)) continue;
            last = SMALL[change];
            if (first == HALF_INFINITE) first = last;
            for (int voxel = 0; voxel < STRIP; ++voxel) {
                const u32 to = change <= voxel ? voxel - change + 1 : change - voxel;
                if (steps[voxel] == 0 || to < steps[voxel]) steps[voxel] = to;
            }
        }
        strip.ends = first << 16 | last;
        for (int voxel = 0; voxel < STRIP; ++voxel) {
            const u32 half = steps[voxel] == 0 ? HALF_INFINITE : SMALL[steps[voxel]];
            strip.nearest[voxel / 2] |= (half | (window >> (voxel + 1) & 1) * HALF_SIGN) << voxel % 2 * 16;
        }
    }
    return strips;
}
static __constant__ const Strips STRIPS = strips();

__device__ __forceinline__ float lower_half(u32 word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float upper_half(u32 word) { return __uint_as_float(word & 0xffff0000u); }

// The highest bit, −1 of 0, which a shuffle takes for the last lane; and the lowest one, 32 of 0, which is the first lane.
__device__ __forceinline__ int last_of(u32 word) {
    int bit;
    asm("bfind.u32 %0, %1;" : "=r"(bit) : "r"(word));
    return bit;
}
__device__ __forceinline__ int first_of(u32 word) { return __clz(int(__brev(word))); }

__device__ __forceinline__ float with_sign(float x, float of) {
    float y;
    asm("copysign.f32 %0, %1, %2;" : "=f"(y) : "f"(of), "f"(x));
    return y;
}

constexpr int bytes_of(int type) { return type == TYPE_U8 ? 1 : type == TYPE_I64 ? 8 : type == TYPE_I32 || type == TYPE_F32 ? 4 : 2; }

// The numbers of a strip as they lie in memory.
template <int TYPE, int V> struct Raw {
    static constexpr int BYTES = V * bytes_of(TYPE);
    u32 words[(BYTES + 3) / 4];

    __device__ __forceinline__ void load(u64 at) {
        if constexpr (BYTES == 1) words[0] = __ldg(reinterpret_cast<const unsigned char *>(at));
        else if constexpr (BYTES == 2) words[0] = __ldg(reinterpret_cast<const unsigned short *>(at));
        else if constexpr (BYTES == 4) words[0] = __ldg(reinterpret_cast<const u32 *>(at));
        else if constexpr (BYTES == 8) {
            const uint2 pair = __ldg(reinterpret_cast<const uint2 *>(at));
            words[0] = pair.x, words[1] = pair.y;
        } else {
            each<BYTES / 16>([&](auto k) {
                const uint4 four = __ldg(reinterpret_cast<const uint4 *>(at) + k);
                words[4 * k] = four.x, words[4 * k + 1] = four.y, words[4 * k + 2] = four.z, words[4 * k + 3] = four.w;
            });
        }
    }
    __device__ __forceinline__ u32 bits(int i) const {
        if constexpr (bytes_of(TYPE) == 1) return words[0] >> 8 * i & 0xff;
        else if constexpr (bytes_of(TYPE) == 2) return i % 2 ? words[i / 2] >> 16 : words[i / 2] & 0xffff;
        else if constexpr (bytes_of(TYPE) == 4) return words[i];
        else return words[2 * i];
    }
    // A label, or −1 where it is none of any class.
    __device__ __forceinline__ int label(int i) const {
        if constexpr (TYPE == TYPE_I16) return short(bits(i));
        else if constexpr (TYPE == TYPE_I64) return words[2 * i + 1] == 0 ? int(bits(i)) : -1;
        else return int(bits(i));
    }
    __device__ __forceinline__ float value(int i) const {
        float x;
        if constexpr (TYPE == TYPE_U8) x = float(bits(i));
        else if constexpr (TYPE == TYPE_F32) x = __uint_as_float(bits(i));
        else if constexpr (TYPE == TYPE_F16) asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((unsigned short)(bits(i))));
        else x = __uint_as_float(bits(i) << 16);
        return x;
    }
};

// Where the numbers of a transform lie, and what makes them sides.
struct Source {
    u64 address, step;
    int wanted, ignored;
    bool nowhere;
};

// The same number, of which the compiler does not know it: what is computed with it stays where it is, and takes no register elsewhere.
__device__ __forceinline__ u64 here(u64 x) {
    asm volatile("" : "+l"(x));
    return x;
}

template <int V> struct Rows {
    static constexpr int SPAN = WARP * V, SPANS = V == 1 ? 8 : 4, CHUNK = SPANS * SPAN;
    // A lane's windows of a chunk are fields of a word, of so many bits; of each, the bits that say where the side changes, and the lowest.
    static constexpr int BITS = V + 1;
    static constexpr u32 FIELD = (1u << V) - 1;
    static constexpr u32 of_fields(u32 bits) {
        u32 word = 0;
        for (int k = 0; k < SPANS; ++k) word |= bits << k * BITS;
        return word;
    }
    static constexpr u32 FIELDS = of_fields(FIELD);
    static __device__ __forceinline__ u32 changes_of(u32 windows) { return (windows ^ windows >> 1) & FIELDS; }
    static __device__ __forceinline__ bool has(u32 word, int span) { return (word & FIELD << span * BITS) != 0; }

    const Transform &p;
    Strip strip;
    // The first voxel of this lane in a span.
    int place;
    Source source;
    // The last side of a chunk that was read, or the label there: in lane 0.
    u32 before;

    __device__ __forceinline__ Rows(const Transform &p) : p(p), place(lane() * V) {
        const Strip words = STRIPS.of[lane()];
        // Where one transform serves all classes there is no side.
        const u32 mask = p.of_labels ? ~(HALF_SIGN << 16 | HALF_SIGN) : ~0u;
        strip = {{words.nearest[0] & mask, words.nearest[1] & mask}, words.ends};
    }

    // Bytes from a voxel to the next.
    __device__ __forceinline__ u64 step(u32 bytes) const { return V == 1 ? source.step * bytes : bytes; }

    // What the strip before has; `own` is this one's.
    __device__ __forceinline__ u32 of_strip_before(u32 own) {
        const u32 rotated = __shfl_sync(WHOLE_WARP, own, lane() - 1);
        const u32 result = lane() == 0 ? before : rotated;
        before = rotated;
        return result;
    }

    // Whether a chunk has no voxel of a span. Strips are not asked for it.
    static __device__ __forceinline__ bool is_beyond(int left, int span) { return V == 1 && left <= span * SPAN; }

    // Calls the body with the numbers of each span of a chunk that has `left` voxels.
    template <int TYPE, class Body> __device__ __forceinline__ void read(u64 at, int left, Body body) const {
        using Of = Raw<TYPE, V>;
        constexpr int TOGETHER = Of::BYTES >= BYTES_AHEAD ? 1 : Of::BYTES * SPANS <= BYTES_AHEAD ? SPANS : BYTES_AHEAD / Of::BYTES;
        const u64 step = V == 1 ? here(source.step) * bytes_of(TYPE) : bytes_of(TYPE), mine = at + place * step;
        each<SPANS / TOGETHER>([&](auto part) {
            constexpr int FIRST = decltype(part)() * TOGETHER;
            Of raw[TOGETHER] = {};
            if (V > 1 && left >= (FIRST + TOGETHER) * SPAN) each<TOGETHER>([&](auto k) { raw[k].load(mine + (FIRST + k) * SPAN * step); });
            else each<TOGETHER>([&](auto k) {
                if (left - place > (FIRST + k) * SPAN) raw[k].load(mine + (FIRST + k) * SPAN * step);
            });
            each<TOGETHER>([&](auto k) {
                if (!is_beyond(left, FIRST + k)) body(Index<FIRST + k>(), raw[k]);
            });
        });
    }

    // Sides of the strips, as the highest bits of a word: whether the label is the class.
    template <int TYPE> __device__ __forceinline__ void sides_of_label(u64 at, int left, u32 (&sides)[SPANS]) const {
        read<TYPE>(at, left, [&](auto k, const auto &raw) {
            u32 own = 0;
            if constexpr (TYPE == TYPE_U8 && V == 4) {
                const u32 differs = raw.words[0] ^ u32(source.wanted) * 0x01010101u;
                const u32 equal = ~((differs & 0x7f7f7f7fu) + 0x7f7f7f7fu | differs | 0x7f7f7f7fu);
                // Bits 7, 15, 23 and 31 to the four highest.
                own = equal * 0x00204081u;
            } else {
                each<V>([&](auto i) { own |= raw.label(i) == source.wanted ? 1u << (32 - V + i) : 0; });
            }
            sides[k] = own;
        });
    }
    // Whether the value of the class is large enough.
    template <int TYPE> __device__ __forceinline__ void sides_of_values(u64 at, int left, u32 (&sides)[SPANS]) const {
        read<TYPE>(at, left, [&](auto k, const auto &raw) {
            u32 own = 0;
            each<V>([&](auto i) { own |= raw.value(i) > p.field.above ? 1u << (32 - V + i) : 0; });
            sides[k] = own;
        });
    }
    // The windows where the sides are the labels: of two that alternate with them.
    template <int TYPE> __device__ __forceinline__ void of_labels(u64 at, int left, u32 begins, u32 &windows) {
        read<TYPE>(at, left, [&](auto k, const auto &raw) {
            int labels[V];
            each<V>([&](auto i) {
                const int label = raw.label(i);
                labels[i] = u32(label) < p.field.limit && label != source.ignored ? label : -1;
            });
            const int last = int(of_strip_before(u32(labels[V - 1])));
            const bool changed = !has(begins, k) && labels[0] != last;
            // One voxel has no side then, and its window one that was before.
            u32 side = V == 1 ? changed : changed << 1, window = side;
            each<V - 1>([&](auto i) {
                side = labels[i + 1] != labels[i] ? side << 1 ^ 4 << i : side << 1;
                window |= side;
            });
            windows |= window << k * BITS;
        });
    }

    // The windows of a chunk. `begins` has a bit in the fields of spans in which the strip begins a row, or what lies beyond the last.
    __device__ __forceinline__ u32 load(u64 at, int left, u32 begins) {
        const u32 type = p.field.type;
        u32 windows = 0;
        if (source.nowhere) return windows;
        if (p.of_labels) {
            with_labels(type, [&](auto type) { of_labels<type>(at, left, begins, windows); });
        } else {
            u32 sides[SPANS] = {};
            if (p.field.is_labels) with_labels(type, [&](auto type) { sides_of_label<type>(at, left, sides); });
            else with_values(type, [&](auto type) { sides_of_values<type>(at, left, sides); });
            each<SPANS>([&](auto k) {
                if (is_beyond(left, k)) return;
                const u32 last = of_strip_before(sides[k]);
                const u32 window = __funnelshift_l(has(begins, k) ? sides[k] << (V - 1) : last, sides[k] >> (32 - V), 1);
                windows |= window << k * BITS;
            });
        }
        return windows;
    }

    // The place of the first change of a chunk that has one.
    __device__ __forceinline__ int first_change(u32 windows) const {
        const u32 changes = changes_of(windows);
        int first = 0;
        each<SPANS>([&](auto from_end) {
            constexpr int K = SPANS - 1 - decltype(from_end)();
            const u32 some = __ballot_sync(WHOLE_WARP, has(changes, K));
            if (some != 0) {
                const int strip = first_of(some);
                first = K * SPAN + strip * V + __shfl_sync(WHOLE_WARP, first_of(changes >> K * BITS), strip);
            }
        });
        return first;
    }

    // Writes the squares of a chunk that begins with `voxel`, of which `to` is this lane's first. `behind` is the place of the last change before the chunk, and
    // becomes that before the next one; `after` is that of the next change beyond it.
    __device__ __forceinline__ void write(
        u64 number, const Which &which, u64 voxel, float *to, int left, u32 begins, u32 windows, float &behind, float after
    ) const {
        // A strip is there where this is more than the place of its span.
        const int more = left - place;
        // What the maps are made from after the rest, in the one place that can: their kinds take many instructions.
        __shared__ float kept[SPANS][THREADS];
        const u32 changes = changes_of(windows), changes_or_begins = changes | begins;
        if (behind == -INFINITE && after == INFINITE && !__any_sync(WHOLE_WARP, changes != 0)) {
            each<SPANS>([&](auto k) {
                float squares[V];
                each<V>([&](auto i) { squares[i] = with_sign(INFINITE, side(windows, k)); });
                if (V == 1 && p.is_last) kept[k][thread()] = squares[0];
                else if (more > k * SPAN) store(to + k * SPAN, squares);
            });
        } else {
            u32 events[SPANS] = {};
            float back[SPANS] = {}, first[SPANS] = {};
            const float x = float(place);
            // Of changes only those in the same row count: a strip that begins one has none before it, and hides those after it.
            each<SPANS>([&](auto k) {
                if (is_beyond(left, k)) return;
                const bool begin = has(begins, k);
                events[k] = __ballot_sync(WHOLE_WARP, has(changes_or_begins, k));
                const float there = x + float(k * SPAN);
                float last_change = behind;
                first[k] = INFINITE;
                if (events[k] != 0) {
                    float last;
                    if constexpr (V == 1) {
                        last = has(changes, k) ? there : -INFINITE;
                    } else {
                        const u32 ends = __shfl_sync(WHOLE_WARP, strip.ends, windows >> k * BITS);
                        last = there + lower_half(ends);
                        first[k] = begin ? INFINITE : x + upper_half(ends);
                    }
                    const u32 lower = events[k] & ~(WHOLE_WARP << lane());
                    last_change = __shfl_sync(WHOLE_WARP, lane() == WARP - 1 ? behind : last, last_of(lower));
                    if (begin) last_change = -INFINITE;
                    behind = __shfl_sync(WHOLE_WARP, last, last_of(events[k]));
                }
                back[k] = (there + 1.0f) - last_change;
            });
            // Far away a place less a span is the place, as numbers are then so far from each other; less a chunk it is that later.
            behind -= float(CHUNK);
            after -= float(CHUNK);
            each<SPANS>([&](auto from_end) {
                constexpr int K = SPANS - 1 - decltype(from_end)();
                after += float(SPAN);
                if (is_beyond(left, K)) return;
                float squares[V];
                if (events[K] != 0) {
                    const u32 upper = events[K] & ~1u << lane();
                    const float own_first = V > 1 ? first[K] : has(changes & ~begins, K) ? x : INFINITE;
                    const float on = __shfl_sync(WHOLE_WARP, lane() == 0 ? after : own_first, first_of(upper)) - x;
                    after = __shfl_sync(WHOLE_WARP, own_first, first_of(events[K]));
                    if constexpr (V == 1) {
                        const float steps = has(changes, K) ? 1.0f : fminf(back[K], on);
                        squares[0] = with_sign(square_of(p, steps), side(windows, K, 1));
                    } else {
                        u32 nearest[(V + 1) / 2];
                        each<(V + 1) / 2>([&](auto pair) { nearest[pair] = __shfl_sync(WHOLE_WARP, strip.nearest[pair], windows >> K * BITS); });
                        each<V>([&](auto i) {
                            const float own = i % 2 ? upper_half(nearest[i / 2]) : lower_half(nearest[i / 2]);
                            squares[i] = with_sign(square_of(p, fminf(nearer<i>(back[K], on), fabsf(own))), own);
                        });
                    }
                } else {
                    const float on = after - x;
                    each<V>([&](auto i) { squares[i] = with_sign(square_of(p, nearer<i>(back[K], on)), side(windows, K)); });
                }
                if (V == 1 && p.is_last) kept[K][thread()] = squares[0];
                else if (more > K * SPAN) store(to + K * SPAN, squares);
            });
        }
        if constexpr (V == 1) {
            for (int k = 0; p.is_last && place + k * SPAN < left; ++k) {
                const float square = kept[k][thread()];
                emit(p, number, which, voxel + place + k * SPAN, fabsf(square), __float_as_uint(square) >> 31);
            }
        }
    }
    static __device__ __forceinline__ void store(float *to, const float (&squares)[4]) {
        asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(squares[0]), "f"(squares[1]), "f"(squares[2]), "f"(squares[3])
                     : "memory");
    }
    static __device__ __forceinline__ void store(float *to, const float (&squares)[1]) { *to = squares[0]; }
    // A number with a side of a window, the one before the strip if no other, as its sign.
    static __device__ __forceinline__ float side(u32 windows, int span, int bit = 0) {
        return __uint_as_float(windows << (31 - span * BITS - bit));
    }
    // Steps of the i-th voxel of a strip, of those back from the first and on from there.
    template <int I> static __device__ __forceinline__ float nearer(float back, float on) {
        if constexpr (I == 0) return fminf(back, on);
        else return fminf(back + float(I), on - float(I));
    }

    // The strips that begin a row where a chunk holds whole rows.
    __device__ __forceinline__ u32 begins_of_rows() const {
        const u32 extent = u32(p.extent), span = SPAN % extent;
        u32 at = place % extent, begins = 0;
        each<SPANS>([&](auto k) {
            begins |= (at == 0) << k * BITS;
            at += span;
            at -= at >= extent ? extent : 0;
        });
        return begins;
    }
    // The same for a chunk of a longer row: what lies beyond the row begins another.
    __device__ __forceinline__ u32 begins_of_part(bool is_first, int left) const {
        const int beyond = left - place;
        const bool ends = left < CHUNK && beyond >= 0 && beyond % SPAN == 0;
        return (ends ? 1u << beyond / SPAN * BITS : 0) | (is_first && lane() == 0);
    }

    __device__ __forceinline__ void run() {
        // By a shuffle the compiler knows that all lanes have the same, and branches on what follows from it as one.
        const u32 warp = __shfl_sync(WHOLE_WARP, ::warp(), 0);
        const bool is_long = p.extent > CHUNK;
        const u32 rows = is_long ? 1 : CHUNK / u32(p.extent);
        const u32 begins = is_long ? 0 : begins_of_rows();
        for (u64 number = blockIdx.y; number < p.count; number += gridDim.y) {
            const Which which(p, number);
            set_source(number, which);
            const u64 step = this->step(bytes_of(int(p.field.type)));
            const auto voxels_of = [&](u64 pieces) { return here(pieces) * rows * p.extent; };
            for (u64 first = voxels_of(u64(blockIdx.x) * WARPS + warp); first < p.voxels; first += voxels_of(u64(gridDim.x) * WARPS)) {
                const u64 voxels = min(voxels_of(1), p.voxels - first);
                const u32 chunks = u32((voxels + CHUNK - 1) / CHUNK);
                // Voxels of the last chunk.
                const int rest = int(voxels - u64(chunks - 1) * CHUNK);
                // Of a chunk with so many from it on: its voxels, and the strips that begin a row.
                const auto left = [&](u32 more) { return more == 1 ? rest : CHUNK; };
                const auto begins_of = [&](u32 more) { return is_long ? begins_of_part(more == chunks, left(more)) : begins; };
                u64 at = source.address + first * step;
                float *to = reinterpret_cast<float *>(p.to) + here(number) * p.voxels + first + place;
                // Of the chunk to be written, of the one that was read, and of all between.
                u32 windows = 0, ahead = 0, plain = 0;
                // Chunks that are still to be read and to be written.
                u32 unread = chunks, unwritten = chunks;
                float behind = -INFINITE;
                bool found;
                before = 0;
                do {
                    // To the next chunk in which the side changes, or the first. Those between have one side.
                    for (found = false; unread > 0 && !found; --unread) {
                        ahead = load(at, left(unread), begins_of(unread));
                        found = unread == chunks || __any_sync(WHOLE_WARP, changes_of(ahead) != 0);
                        if (!found) plain = 0u - (__shfl_sync(WHOLE_WARP, ahead, 0) & 1);
                        at += CHUNK * step;
                    }
                    const u32 end = unread + found;
                    const int change = found && unwritten > end ? first_change(ahead) : 0;
                    for (; unwritten > end; --unwritten) {
                        const float after = found ? float(u64(unwritten - end) * CHUNK + change) : INFINITE;
                        write(number, which, first + u64(chunks - unwritten) * CHUNK, to, left(unwritten), begins_of(unwritten), windows, behind, after);
                        windows = plain;
                        to += CHUNK;
                    }
                    windows = ahead;
                } while (found);
            }
        }
    }

    __device__ __forceinline__ void set_source(u64 number, const Which &which) {
        const Field &field = p.field;
        source = {field.address, 1, 0, field.ignores && u64(field.ignored) < field.limit ? int(field.ignored) : -1, false};
        u64 plane = which.sample * p.voxels;
        if (!field.is_labels) {
            const Values values(field, p.voxels, which.sample, class_of_map(p, which.map));
            plane = field.of_transforms ? number * p.voxels : values.first;
            source.step = values.step;
        } else if (!p.of_labels) {
            source.wanted = label_of_map(p, which.map);
            // No byte is a label beyond a byte.
            source.nowhere = source.wanted == source.ignored || (field.type == TYPE_U8 && source.wanted > 0xff);
        }
        source.address += plane * bytes_of(int(field.type));
    }
};
