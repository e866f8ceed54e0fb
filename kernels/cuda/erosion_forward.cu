// erosion_forward: one erosion of the errors of some planes, and b of the one before; with the last, the weighted sum of them all.
//
// reads   f32 errors, or the f64 sums of the erosion before and their extremes; what was kept
// writes  f64 sums and their extremes by part; of the erosion before, what is kept: 4 bytes per voxel; f64 sums of the erosions whose
//         places are taken again next; at the end f32 eroded errors
// launch  grid (parts × planes, 1, 1) and no more than fit, block 256; one launch per erosion, and one more
// determinism  gpu_to_gpu: sums in one order, rounded as IEEE says; extremes do not depend on an order
// twins   kernels/wgsl/erosion_sums.wgsl and erosion_spread.wgsl, src/cpu/erosion.rs
#include "erosion.cuh"

// The largest number below 1.
static constexpr float BELOW_ONE = 0.99999994f;

extern "C" __global__ void __launch_bounds__(THREADS, 4) erosion_forward(const Erosion p) {
    __shared__ Extremes scratch[THREADS];
    const int own = thread();
    const bool is_first = p.erosion == 1, is_over = p.erosion > p.erosions;
    const u32 before = p.erosion - 1;
    for (u64 task = blockIdx.x; task < p.planes * p.parts; task += gridDim.x) {
        const ErosionPart part(p, task);
        Extremes extremes = {NO_SUM, 0};
        if (!is_first) extremes = extremes_of_plane(scratch, p, part.plane, before);
        const Spread spread(p, extremes);
        const double *from = plane_of<const double>(p.from, p, part);
        if (!spread.skipped && before >= p.kept_from) {
            float *kept = kept_of(p, part, before);
            for (u64 voxel = part.first + own; voxel < part.end; voxel += THREADS) {
                const double sum = __ldg(from + voxel), b = spread(sum);
                const float rounded = float(b);
                kept[voxel] = sum < 0.0 ? -0.0f : b < 1.0 ? fminf(rounded, BELOW_ONE) : rounded;
            }
        }
        if (!is_first && !p.again && (is_over || before % p.room == 0)) {
            const u32 begin = (before - 1) / p.room * p.room;
            double *totals = plane_of<double>(p.totals, p, part);
            for (u64 voxel = part.first + own; voxel < part.end; voxel += THREADS) {
                double total = begin > 0 ? totals[voxel] : 0.0;
                for (u32 k = begin + 1; k <= before && extremes_of(p, part.plane, k)->least != NO_SUM; ++k)
                    total = __fma_rn(factor(p, k), double(kept_of(p, part, k)[voxel]), total);
                if (is_over) part.values[voxel] = float(total);
                else totals[voxel] = total;
            }
        }
        if (is_over) continue;
        Extremes own_extremes = {NO_SUM, 0};
        // Of nothing comes nothing.
        if (is_first || spread.largest != 0.0) {
            const double half = 0.5 * p.cross;
            double *to = plane_of<double>(p.to, p, part);
            const auto squared = [&](u64 i) {
                const double error = part.errors[i];
                return __dmul_rn(error, error);
            };
            const auto spread_at = [&](u64 i) { return spread(__ldg(from + i)); };
            for (u64 voxel = part.first + own; voxel < part.end; voxel += THREADS) {
                const double sum = __dsub_rn(is_first ? cross(p, voxel, squared) : cross(p, voxel, spread_at), half);
                to[voxel] = sum;
                const u64 bits = u64(__double_as_longlong(spread.left(sum)));
                own_extremes = own_extremes + Extremes{bits, bits};
            }
        }
        own_extremes = sum_of_block(scratch, own_extremes);
        if (own == 0) extremes_of(p, part.plane, p.erosion)[task % p.parts] = own_extremes;
    }
}
