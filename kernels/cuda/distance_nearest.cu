// distance_nearest: along an axis, the two nearest objects of each voxel from those of its line and the ways to them; the last pass
// writes the sum of the two distances.
//
// The two best of a union are the two best of the two bests, so they are found an axis at a time, as the least one of a transform is.
//
// reads   four words per voxel: squares of the distances to two objects, the lesser first, and the numbers of the objects. Of each line
//         as far as it can matter, mostly from the caches
// writes  the same, or f32 d1 + d2
// launch  grid (voxels / 256, 1, 1) and no more than fit, block 256; a thread takes a voxel and goes outward from it
// determinism  run_to_run: no two threads write the same element
// twins   kernels/wgsl/distance_nearest.wgsl, src/cpu/objects.rs
#include "distance_objects.cuh"

__device__ __forceinline__ void take(const Objects &p, Nearest &nearest, u64 i, float way) {
    const Nearest other(p.from, i);
    nearest.take(__fadd_rn(other.first, way), other.of_first);
    nearest.take(__fadd_rn(other.second, way), other.of_second);
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) distance_nearest(const Objects p) {
    const u64 all = p.samples * p.voxels;
    for (u64 i = u64(blockIdx.x) * THREADS + thread(); i < all; i += u64(gridDim.x) * THREADS) {
        Nearest nearest(p.from, i);
        const u64 at = i % p.voxels / p.inner % p.extent, after = p.extent - 1 - at;
        const u64 most = max(at, after);
        for (u64 k = 1; k <= most; ++k) {
            const float steps = float(k);
            const float way = __fmul_rn(__fmul_rn(steps, steps), p.step_squared);
            // Nothing farther away can be nearer.
            if (way >= nearest.second) break;
            if (k <= at) take(p, nearest, i - k * p.inner, way);
            if (k <= after) take(p, nearest, i + k * p.inner, way);
        }
        if (!p.is_last) {
            nearest.store(p.to, i);
            continue;
        }
        const float sum = __fadd_rn(__fsqrt_rn(nearest.first), __fsqrt_rn(nearest.second));
        reinterpret_cast<float *>(p.to)[i] = nearest.of_second == NO_OBJECT ? p.reach : fminf(sum, p.reach);
    }
}
