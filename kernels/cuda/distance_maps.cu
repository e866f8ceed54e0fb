// distance_maps: the maps of a plan, from squares of distances: signed, squared, the closeness to the border, or one mean per plane.
//
// reads   f32 squares of distances, negative in the class; what distance_extremes wrote of all parts of the plane
// writes  f32 [N, made, V]; it may lie in place of the squares
// launch  grid (parts × planes, 1, 1) and no more than fit, block 256
// determinism  run_to_run: every block adds the parts of its plane in their order
// twins   kernels/wgsl/distance_maps.wgsl, src/cpu/maps.rs
#include "distance_maps.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 4) distance_maps(const Maps p) {
    for (u64 task = blockIdx.x; task < p.planes * p.parts; task += gridDim.x) {
        const MapPart part(p, task);
        const u64 *partials = reinterpret_cast<const u64 *>(p.partials) + 2 * part.plane * p.parts;
        float least[2] = {INFINITE, INFINITE}, largest[2] = {-INFINITE, -INFINITE};
        float mean = 0.0f;
        if (p.operation == MAP_CLOSENESS) {
            for (u32 k = 0; k < p.parts; ++k) {
                const u64 low = __ldg(partials + 2 * k), high = __ldg(partials + 2 * k + 1);
                least[0] = fminf(least[0], __uint_as_float(u32(low)));
                least[1] = fminf(least[1], __uint_as_float(u32(low >> 32)));
                largest[0] = fmaxf(largest[0], __uint_as_float(u32(high)));
                largest[1] = fmaxf(largest[1], __uint_as_float(u32(high >> 32)));
            }
        } else if (p.operation == MAP_MEAN) {
            double sum = 0.0;
            u64 count = 0;
            for (u32 k = 0; k < p.parts; ++k) {
                sum += __longlong_as_double(__ldg(partials + 2 * k));
                count += __ldg(partials + 2 * k + 1);
            }
            // Distances to a contour that is not there are ∞.
            mean = count > 0 && sum < INFINITE ? float(__ddiv_rn(sum, double(count))) : 0.0f;
        }
        for (u64 voxel = part.first + thread(); voxel < part.end; voxel += THREADS) {
            float x = mean;
            if (p.operation != MAP_MEAN) {
                const float square = part.from[voxel], d = __fsqrt_rn(fabsf(square));
                const bool inside = square < 0.0f;
                if (p.operation == MAP_SIGNED) x = inside ? __fsub_rn(1.0f, d) : d;
                else if (p.operation == MAP_SQUARED) x = fabsf(square);
                else {
                    const float low = inside ? least[1] : least[0], high = inside ? largest[1] : largest[0];
                    x = high > low ? __fdiv_rn(__fsub_rn(high, d), __fsub_rn(high, low)) : 0.0f;
                }
            }
            part.to[voxel] = x;
        }
    }
}
