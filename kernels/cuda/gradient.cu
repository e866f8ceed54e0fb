// gradient: ∂L/∂prediction from the coefficients of the sums.
//
// reads   prediction, target, mask, weights, map: each element once; coefficients (N, C, slopes) f32
// writes  the gradient, each element once; it may lie in place of the prediction
// launch  grid (rows of a sample, samples, samples beyond 65535), block 256, dynamic shared memory as the launch table says
// determinism  run_to_run: no two threads write the same element
// twins   kernels/wgsl/gradient.wgsl, src/cpu/gradient.rs
#include "slopes.cuh"

template <int SLOTS, int WIDTH, bool INTERLEAVED, bool TEAMED> __device__ __forceinline__ void gradient(const Params &params) {
    const Block block(params);
    if (!block.exists) return;
    Slopes<SLOTS, WIDTH, INTERLEAVED, TEAMED>::gradient(params, block);
}
