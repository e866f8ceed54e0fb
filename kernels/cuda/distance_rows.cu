// distance_rows: squares of distances along the last axis, to the nearest place where the side changes.
//
// reads   labels, or values of one class, of a row: twice where it is longer than a chunk, else once
// writes  f32 [transforms, V], negative in the class, ∞ (or −∞) in a row that does not change; of a line alone, the maps
// launch  grid (rows / 8, 1, 1) and no more than fit, block 256; a warp takes a row, 1024 voxels at a time
// determinism  run_to_run: no sum, no two threads write the same element
// twins   kernels/wgsl/distance_rows.wgsl, src/cpu/distance/passes.rs
#include "distance.cuh"

// Words of 32 voxels that a warp holds, one per lane.
static constexpr int CHUNK = WARP * WARP;

template <class Key> struct Row {
    const Transform &p;
    const Key &key;

    // Each lane's word of a chunk: which voxels differ from the one before, and which are of the class.
    __device__ __forceinline__ void load(u64 start, u32 &changes, u32 &insides) const {
        changes = insides = 0;
        const u64 left = p.extent - start;
        const int words = left < CHUNK ? int((left + WARP - 1) / WARP) : WARP;
        int last = start > 0 ? key(start - 1) : 0;
#pragma unroll 4
        for (int word = 0; word < words; ++word) {
            const u64 x = start + word * WARP + lane();
            const bool there = x < p.extent;
            const int own = there ? key(x) : 0;
            int before = __shfl_up_sync(WHOLE_WARP, own, 1);
            before = lane() == 0 ? last : before;
            last = __shfl_sync(WHOLE_WARP, own, WARP - 1);
            const u32 changed = __ballot_sync(WHOLE_WARP, there && x > 0 && own != before);
            const u32 inside = __ballot_sync(WHOLE_WARP, there && own != 0);
            if (lane() == word) changes = changed, insides = inside;
        }
    }

    // The first change at `start`, which begins a chunk, or after it; the extent where there is none.
    __device__ __forceinline__ u64 next(u64 start) const {
        for (; start < p.extent; start += CHUNK) {
            u32 changes, insides;
            load(start, changes, insides);
            const u32 some = __ballot_sync(WHOLE_WARP, changes != 0);
            if (some != 0) {
                const int word = lowest(some);
                return start + word * WARP + lowest(__shfl_sync(WHOLE_WARP, changes, word));
            }
        }
        return p.extent;
    }

    __device__ __forceinline__ void run(u64 number, const Which &which, u64 first) const {
        // Steps from the begin of the chunk back to the voxel before the last change; and the first change beyond the chunk.
        float behind = INFINITE;
        u64 after = 0;
        for (u64 start = 0; start < p.extent; start += CHUNK) {
            u32 changes, insides;
            load(start, changes, insides);
            if (after < start + CHUNK) after = next(start + CHUNK);
            // Of each lane's word: steps from its first voxel back, and on, to the nearest changes in other words.
            int last = changes != 0 ? lane() * WARP + highest(changes) : NO_PLACE_BEFORE;
            int first_change = changes != 0 ? lane() * WARP + lowest(changes) : NO_PLACE_AFTER;
            for (int step = 1; step < WARP; step *= 2) {
                const int lower = __shfl_up_sync(WHOLE_WARP, last, step);
                const int upper = __shfl_down_sync(WHOLE_WARP, first_change, step);
                last = lane() >= step ? max(last, lower) : last;
                first_change = lane() + step < WARP ? min(first_change, upper) : first_change;
            }
            const int lower = __shfl_up_sync(WHOLE_WARP, last, 1), upper = __shfl_down_sync(WHOLE_WARP, first_change, 1);
            const int place = lane() * WARP;
            float back = lane() > 0 && lower != NO_PLACE_BEFORE ? float(place - lower + 1) : behind + float(place);
            float on = after < p.extent ? float(after - start - place) : INFINITE;
            on = lane() + 1 < WARP && upper != NO_PLACE_AFTER ? float(upper - place) : on;
            const u64 left = p.extent - start;
            const int words = left < CHUNK ? int((left + WARP - 1) / WARP) : WARP;
            for (int word = 0; word < words; ++word) {
                const u32 changed = __shfl_sync(WHOLE_WARP, changes, word);
                const u32 inside = __shfl_sync(WHOLE_WARP, insides, word);
                const float word_back = __shfl_sync(WHOLE_WARP, back, word);
                const float word_on = __shfl_sync(WHOLE_WARP, on, word);
                const u32 lower_changes = changed & up_to(lane()), upper_changes = changed & beyond(lane());
                const float l = lower_changes != 0 ? float(lane() - highest(lower_changes) + 1) : word_back + float(lane());
                const float r = upper_changes != 0 ? float(lowest(upper_changes) - lane()) : word_on - float(lane());
                const u64 x = start + word * WARP + lane();
                if (x < p.extent) emit(p, number, which, first + x, square_of(p, fminf(l, r)), !p.of_labels && (inside >> lane() & 1));
            }
            const int last_of_all = __shfl_sync(WHOLE_WARP, last, WARP - 1);
            behind = last_of_all != NO_PLACE_BEFORE ? float(CHUNK - last_of_all + 1) : behind + float(CHUNK);
        }
    }
};

// What differs from voxel to voxel of a row where the side changes: whether the label is the class, or the label itself.
template <int TYPE> struct OfLabels {
    const Transform &p;
    u64 begin;
    int wanted;
    __device__ __forceinline__ int operator()(u64 x) const {
        const int label = label_of<TYPE>(p.field, begin + x);
        return p.of_labels ? label : int(label == wanted);
    }
};
// Whether the value of the class is large enough.
template <int TYPE> struct OfValues {
    const Transform &p;
    u64 begin, step;
    __device__ __forceinline__ int operator()(u64 x) const { return int(number<TYPE>(p.field.address, begin + x * step) > p.field.above); }
};

template <int TYPE> __device__ __forceinline__ void of_labels(const Transform &p, u64 transform, u64 first) {
    const Which which(p, transform);
    const OfLabels<TYPE> key{p, which.sample * p.voxels + first, label_of_map(p, which.map)};
    Row<OfLabels<TYPE>>{p, key}.run(transform, which, first);
}
template <int TYPE> __device__ __forceinline__ void of_values(const Transform &p, u64 transform, u64 first) {
    const Which which(p, transform);
    const Values values(p.field, p.voxels, which.sample, class_of_map(p, which.map));
    const u64 plane = p.field.of_transforms ? transform * p.voxels : values.first;
    const OfValues<TYPE> key{p, plane + first * values.step, values.step};
    Row<OfValues<TYPE>>{p, key}.run(transform, which, first);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) distance_rows(const Transform p) {
    const u64 rows = p.voxels / p.extent, tasks = p.count * rows;
    for (u64 task = u64(blockIdx.x) * WARPS + warp(); task < tasks; task += u64(gridDim.x) * WARPS) {
        const u64 transform = task / rows, first = task % rows * p.extent;
        const u32 type = p.field.type;
        if (p.field.is_labels) {
            if (type == TYPE_U8) of_labels<TYPE_U8>(p, transform, first);
            else if (type == TYPE_I16) of_labels<TYPE_I16>(p, transform, first);
            else if (type == TYPE_I32) of_labels<TYPE_I32>(p, transform, first);
            else of_labels<TYPE_I64>(p, transform, first);
        } else {
            if (type == TYPE_U8) of_values<TYPE_U8>(p, transform, first);
            else if (type == TYPE_F32) of_values<TYPE_F32>(p, transform, first);
            else if (type == TYPE_F16) of_values<TYPE_F16>(p, transform, first);
            else of_values<TYPE_BF16>(p, transform, first);
        }
    }
}
