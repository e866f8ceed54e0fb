// erosion_backward: the slope of the weighted sum of eroded errors, one erosion back; at the end by the error of each voxel, per weight.
//
// reads   f64 slopes by the erosion after this one, what was kept of both, what flows to its extremes
// writes  f64 slopes by this erosion, and by part what flows to its extremes; at the end f32 slopes, in place of the errors
// launch  grid (parts × planes, 1, 1) and no more than fit, block 256; one launch per erosion, and one more
// determinism  run_to_run: parts follow from the number of voxels; a thread adds in order, then a tree of the block
// twins   kernels/wgsl/erosion_backward.wgsl, src/cpu/erosion.rs
#include "erosion.cuh"

// The largest number.
static constexpr float LARGEST = 3.40282347e38f;

// What flows to the largest and to the least voxels of a plane.
struct Shares {
    double to_largest, to_least;
    u64 largest, least;
};
__device__ __forceinline__ Shares operator+(const Shares &a, const Shares &b) {
    return {__dadd_rn(a.to_largest, b.to_largest), __dadd_rn(a.to_least, b.to_least), a.largest + b.largest, a.least + b.least};
}
__device__ __forceinline__ Shares *shares_of(const Erosion &p, u64 plane, u32 erosion) {
    return reinterpret_cast<Shares *>(p.shares) + ((erosion - 1) * p.planes + plane) * p.parts;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) erosion_backward(const Erosion p) {
    __shared__ Extremes scratch[THREADS];
    __shared__ Shares scratch_of_shares[THREADS];
    const int own = thread();
    const Shares none = {0.0, 0.0, 0, 0};
    const bool is_last = p.erosion == p.erosions, is_over = p.erosion == 0;
    for (u64 task = blockIdx.x; task < p.planes * p.parts; task += gridDim.x) {
        const ErosionPart part(p, task);
        if (!is_over && extremes_of(p, part.plane, p.erosion)->least == NO_SUM) continue;
        const Spread after(p, is_last ? Extremes{NO_SUM, 0} : extremes_of_plane(scratch, p, part.plane, p.erosion + 1));
        const bool flows = !after.skipped;
        double of_largest = 0.0, of_least = 0.0;
        if (flows && after.is_spread) {
            const bool there = own < p.parts;
            const Shares sum = sum_of_block(scratch_of_shares, there ? shares_of(p, part.plane, p.erosion + 1)[own] : none);
            of_largest = __ddiv_rn(sum.to_largest, double(sum.largest));
            of_least = __ddiv_rn(sum.to_least, double(sum.least));
        }
        const double *from = plane_of<const double>(p.from, p, part);
        const float *kept_after = flows ? kept_of(p, part, p.erosion + 1) : nullptr;
        const auto slope = [&](u64 i) {
            const float b = __ldg(kept_after + i);
            const double shared = b == 1.0f ? of_largest : b == 0.0f ? of_least : 0.0;
            return __float_as_uint(b) == 0x80000000u ? 0.0 : __dmul_rn(__dsub_rn(__ldg(from + i), shared), after.reciprocal);
        };
        Shares shares = none;
        const float *kept = is_over ? nullptr : kept_of(p, part, p.erosion);
        for (u64 voxel = part.first + own; voxel < part.end; voxel += THREADS) {
            const float weight = __ldg(part.weights + voxel);
            double sum = flows ? cross(p, voxel, slope) : 0.0;
            if (is_over) {
                const float by_weight = weight == 0.0f ? 0.0f : float(__ddiv_rn(sum, double(weight)));
                // No infinity, which would be NaN where p = g.
                part.errors[voxel] = fabsf(by_weight) == INFINITE ? copysignf(LARGEST, by_weight) : by_weight;
                continue;
            }
            sum = __fma_rn(factor(p, p.erosion), double(weight), sum);
            plane_of<double>(p.to, p, part)[voxel] = sum;
            const float b = kept[voxel];
            shares.to_largest = __fma_rn(sum, double(b), shares.to_largest);
            shares.to_least = __fma_rn(sum, __dsub_rn(1.0, double(b)), shares.to_least);
            shares.largest += b == 1.0f;
            shares.least += b == 0.0f;
        }
        if (is_over) continue;
        shares = sum_of_block(scratch_of_shares, shares);
        if (own == 0) shares_of(p, part.plane, p.erosion)[task % p.parts] = shares;
    }
}
