// one_pass: the sums and the gradient in one read, for plans whose coefficients need no sum over the prediction.
//
// reads   prediction, target, mask, weights, map: each element once; coefficients (N, C, slopes) f32
// writes  0 as the ticket of `finish`; its row of partial sums, as `reduce`; the gradient, each element once, which may lie in place of the prediction
// launch  grid (rows of a sample, samples, samples beyond 65535), block 256, dynamic shared memory as the launch table says
// determinism  run_to_run: as `reduce` and `gradient`
// twin    kernels/wgsl/one_pass.wgsl
#include "slopes.cuh"
#include "sums.cuh"

template <int SLOTS, int WIDTH, bool INTERLEAVED, bool TEAMED> __device__ __forceinline__ void one_pass(const Params &params) {
    const Block block(params);
    if (!block.exists) return;
    using Sums = ::Sums<SLOTS, WIDTH, INTERLEAVED, TEAMED>;
    Sums::clear_ticket(params);
    Voxel<SLOTS, WIDTH, INTERLEAVED, TEAMED> voxel(params, block.sample);
    const Slopes<SLOTS, WIDTH, INTERLEAVED, TEAMED> slopes(voxel);
    u64 first = block.begin(voxel);
    for (u32 run = 0; run < params.runs; ++run) {
        Sums::clear();
        for (u32 round = 0; round < params.rounds; ++round, first += block.step(voxel)) {
            voxel.load_voxel(first);
            voxel.activate();
            Sums::add(voxel);
            slopes.differentiate(voxel);
        }
        Sums::flush(params, block, run == 0);
    }
}
