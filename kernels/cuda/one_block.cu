// one_block: sums, finish step and gradient of a small head, one after the other in one block.
//
// The rows are those of `reduce`, the sums are added up as by `finish`, so that the bits are those of three launches.
//
// reads   as `reduce`, `finish` and `gradient`; prediction and what lies beside it twice
// writes  rows of partial sums, moments, coefficients, result; the gradient, which may lie in place of the prediction, where
//         coefficients are asked for
// launch  grid (1, 1, 1), block 256, dynamic shared memory as the most of the three
// determinism  run_to_run: as the three
#include "finish.cuh"
#include "slopes.cuh"
#include "sums.cuh"

// `OneBlock` of src/cuda/params.rs.
struct OneBlock {
    Params voxels;
    FinishParams finish;
};

template <int SLOTS, int WIDTH, bool INTERLEAVED, bool TEAMED> __device__ __forceinline__ void one_block(const OneBlock &params) {
    static_assert(COMBINE_THREADS == THREADS, "one block is a block of all three");
    using Sums = ::Sums<SLOTS, WIDTH, INTERLEAVED, TEAMED>;
    using Slopes = ::Slopes<SLOTS, WIDTH, INTERLEAVED, TEAMED, true>;
    // Each ends with a barrier, behind which all threads see the row.
    for (u32 sample = 0; sample < params.voxels.samples; ++sample)
        for (u32 row = 0; row < params.voxels.rows_of_sample; ++row) Sums::reduce(params.voxels, Block(sample, row));
    finish_head(params.finish, reinterpret_cast<double *>(shared));
    if (!params.finish.coefficients) return;
    // All threads see the coefficients, and what the finish step had in shared memory is done with.
    __syncthreads();
    for (u32 sample = 0; sample < params.voxels.samples; ++sample)
        for (u32 row = 0; row < params.voxels.rows_of_sample; ++row) Slopes::gradient(params.voxels, Block(sample, row));
}
