// reduce: every sum of the plan in one read of prediction and target; with CENSUS, of the target alone.
//
// reads   prediction (N, C, V) or (N, V, C) f32|f16|bf16; target, mask, weights, map: each element once
// writes  0 as the ticket of `finish`; its row of partial sums in the workspace, doubles
// launch  grid (rows of a sample, samples, samples beyond 65535), block 256, dynamic shared memory as the launch table says
// determinism  run_to_run: the grid, the runs and the trees follow from the shape
// twins   kernels/wgsl/reduce.wgsl, src/cpu/reduce.rs
#include "sums.cuh"

template <int SLOTS, int WIDTH, bool INTERLEAVED, bool TEAMED> __device__ __forceinline__ void reduce(const Params &params) {
    const Block block(params);
    if (!block.exists) return;
    using Sums = ::Sums<SLOTS, WIDTH, INTERLEAVED, TEAMED>;
    Sums::clear_ticket(params);
    Sums::reduce(params, block);
}
