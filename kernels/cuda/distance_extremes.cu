// distance_extremes: of each part of each plane, the least and the largest distance on both sides, or the sum of distances over a contour.
//
// reads   f32 squares of distances; the labels or bytes of a contour
// writes  16 bytes per part
// launch  grid (parts × planes, 1, 1) and no more than fit, block 256
// determinism  run_to_run: parts follow from the number of voxels; a thread adds in order, then a tree of the block
// twins   kernels/wgsl/distance_extremes.wgsl, src/cpu/maps.rs
#include "distance_maps.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 4) distance_extremes(const Maps p) {
    __shared__ float least[2][THREADS], largest[2][THREADS];
    __shared__ double sums[THREADS];
    __shared__ u64 counts[THREADS];
    const int own = thread();
    const bool means = p.operation == MAP_MEAN;
    for (u64 task = blockIdx.x; task < p.planes * p.parts; task += gridDim.x) {
        const MapPart part(p, task);
        float low[2] = {INFINITE, INFINITE}, high[2] = {-INFINITE, -INFINITE};
        double sum = 0.0;
        u64 count = 0;
        const Values values(p.over, p.voxels, part.sample, part.of_class);
        const int wanted = p.one_class ? 1 : int(part.of_class);
        for (u64 voxel = part.first + own; voxel < part.end; voxel += THREADS) {
            const float square = part.from[voxel];
            if (means) {
                const bool there = p.over.is_labels
                                       ? label_of<TYPE_I16>(p.over, part.sample * p.voxels + voxel) == wanted
                                       : number<TYPE_U8>(p.over.address, values.first + voxel * values.step) > p.over.above;
                if (there) sum += __dsqrt_rn(double(square)), ++count;
            } else {
                const float d = __fsqrt_rn(fabsf(square));
                const bool inside = square < 0.0f;
                if (inside) low[1] = fminf(low[1], d), high[1] = fmaxf(high[1], d);
                else low[0] = fminf(low[0], d), high[0] = fmaxf(high[0], d);
            }
        }
        least[0][own] = low[0], least[1][own] = low[1], largest[0][own] = high[0], largest[1][own] = high[1];
        sums[own] = sum, counts[own] = count;
        for (int half = THREADS / 2; half > 0; half /= 2) {
            __syncthreads();
            if (own < half) {
                for (int side = 0; side < 2; ++side) {
                    least[side][own] = fminf(least[side][own], least[side][own + half]);
                    largest[side][own] = fmaxf(largest[side][own], largest[side][own + half]);
                }
                sums[own] += sums[own + half];
                counts[own] += counts[own + half];
            }
        }
        if (own == 0) {
            u64 *to = reinterpret_cast<u64 *>(p.partials) + 2 * task;
            const auto pair = [](float a, float b) { return u64(__float_as_uint(b)) << 32 | __float_as_uint(a); };
            to[0] = means ? u64(__double_as_longlong(sums[0])) : pair(least[0][0], least[1][0]);
            to[1] = means ? counts[0] : pair(largest[0][0], largest[1][0]);
        }
        __syncthreads();
    }
}
