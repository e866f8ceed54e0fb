// The partial sums of a pass, added up to the moments of each sample: the end of the stage `reduce` of a split call.
//
// reads    rows of partial sums, f64 [N][rows][row]
// writes   moments, f64 [N][row]
// launch   grid (pieces, 1, 1), block 256; 2 KiB shared
// order    follows from the number of rows, samples and doubles of a row alone: run_to_run

#include "combine.cuh"

extern "C" __global__ void __launch_bounds__(COMBINE_THREADS) combine(const Combine params) {
    __shared__ double exchange[COMBINE_THREADS];
    add_up(params, exchange);
}
