// Moments to loss and coefficients: what src/finish.rs does, on the device, for one head. All blocks add up the rows of partial
// sums (combine.cuh); the last of them interprets the formulas.
//
// reads    recipe: shapes, places and programs, by the names of gen/recipe; workspace: rows of partial sums or moments, f64
//          [N][row]; grad_output: f32, one number per loss
// writes   workspace: moments, scratch, and the coefficients ∂(what is minimised)/∂moment, f32 [N][C][slope count];
//          result: the losses [L], then per head its terms [T][L], valid voxels and invalid labels, first as f32 and, from
//          the next even word on, as doubles
// launch   grid (pieces, 1, 1) where rows are added, else (1, 1, 1); block 256; shared: see `FinishParams`
// order    sums over samples, classes and groups have an order that follows from their number alone: run_to_run

#include "finish.cuh"

extern "C" __global__ void __launch_bounds__(COMBINE_THREADS, 1) finish(const FinishParams params) {
    extern __shared__ double cells[];
    finish_head(params, cells);
}
