// distance_sides: which voxels are of which class, where rows cannot read it themselves: one number per voxel that classes exclude each
// other in, or one byte per voxel and map.
//
// reads   a prediction, twice; a dense target or labels, once; the labels and the mask that say which voxels count
// writes  i16 [samples, V], below 0 for no class; or u8 [transforms, V], 1 in the class
// launch  grid (voxels / 256, 1, 1) and no more than fit, block 256; a thread takes a voxel
// determinism  run_to_run: no two threads write the same element
// twins   kernels/wgsl/distance_sides.wgsl, src/cpu/distance/sides.rs, src/cpu/maps.rs
#include "distance.cuh"

enum : u32 { RULE_LABEL, RULE_ARGMAX, RULE_MAJORITY, RULE_ABOVE, RULE_SOFTMAX_ABOVE };

// `Sides` of src/cuda/distance.rs.
struct Sides {
    // What classes are read from; and labels of which those that are no class do not count, if there are some.
    Field field, counts;
    // u8, 0 where a voxel does not count; or 0.
    u64 keep;
    u64 to;
    u64 classes_of_maps;
    u64 voxels;
    // Transforms of this launch and the first of them: of each sample and map, or of each sample.
    u64 first, count;
    u32 maps;
    u32 rule;
};

// The value of a class of a voxel.
template <int TYPE> __device__ __forceinline__ float value(const Sides &p, u64 sample, u64 voxel, u32 of_class) {
    const Values values(p.field, p.voxels, sample, of_class);
    return number<TYPE>(p.field.address, values.first + voxel * values.step);
}

template <int TYPE> __device__ __forceinline__ int exclusive(const Sides &p, u64 sample, u64 voxel) {
    const auto of = [&](u32 k) { return value<TYPE>(p, sample, voxel, k); };
    float best = of(0);
    // A NaN is above nothing, and a voxel of NaN alone is of no class.
    int winner = best == best ? 0 : -1;
    best = best == best ? best : -INFINITE;
    for (u32 k = 1; k < p.field.classes; ++k) {
        const float x = of(k);
        winner = x > best ? int(k) : winner;
        best = x > best ? x : best;
    }
    if (p.rule == RULE_ARGMAX || winner < 0) return winner;
    // p > ½ where the shares of all others are below the one of the largest, which is e⁰.
    float others = 0.0f;
    for (u32 k = 0; k < p.field.classes; ++k)
        if (int(k) != winner) others += exp_of_negative(of(k) - best);
    return others < 1.0f ? winner : -1;
}

template <int TYPE> __device__ __forceinline__ bool is_above(const Sides &p, u64 sample, u64 voxel, u32 of_class) {
    const auto of = [&](u32 k) { return value<TYPE>(p, sample, voxel, k); };
    const float own = of(of_class);
    if (p.rule == RULE_ABOVE) return own > p.field.above;
    float top = own, sum = 0.0f;
    for (u32 k = 0; k < p.field.classes; ++k) top = fmaxf(top, of(k));
    for (u32 k = 0; k < p.field.classes; ++k) sum += exp_of_negative(of(k) - top);
    return exp_of_negative(own - top) / sum > p.field.above;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) distance_sides(const Sides p) {
    const u64 all = p.count * p.voxels;
    const bool of_samples = p.rule < RULE_ABOVE;
    for (u64 i = u64(blockIdx.x) * THREADS + thread(); i < all; i += u64(gridDim.x) * THREADS) {
        const u64 transform = p.first + i / p.voxels, voxel = i % p.voxels;
        const u64 sample = of_samples ? transform : transform / p.maps;
        const u64 place = sample * p.voxels + voxel;
        bool counts = true;
        if (p.counts.address != 0) counts = label_of(p.counts, place) >= 0;
        if (p.keep != 0) counts = counts && __ldg(reinterpret_cast<const unsigned char *>(p.keep) + place) != 0;
        if (p.rule == RULE_LABEL) {
            reinterpret_cast<short *>(p.to)[i] = counts ? short(label_of(p.field, place)) : short(-1);
        } else if (of_samples) {
            int own = -1;
            if (counts) with_values(p.field.type, [&](auto type) { own = exclusive<type>(p, sample, voxel); });
            reinterpret_cast<short *>(p.to)[i] = short(own);
        } else {
            const u32 map = u32(transform % p.maps);
            const u32 of_class = p.classes_of_maps == 0 ? map : __ldg(reinterpret_cast<const u32 *>(p.classes_of_maps) + map);
            bool inside = false;
            if (counts) with_values(p.field.type, [&](auto type) { inside = is_above<type>(p, sample, voxel, of_class); });
            reinterpret_cast<unsigned char *>(p.to)[i] = inside;
        }
    }
}
