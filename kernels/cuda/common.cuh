// What every voxel kernel shares: types, the parameter, the numbers of the plan, loops that are written out.
//
// A kernel is compiled ahead of time to PTX that is a *skeleton*: where it needs a number of the plan it holds a word
// (`SEGFUSE_CLASSES`), and where a sum is added or a pixel term is computed a comment with the registers at hand
// (`// SEGFUSE_SUM …`). `src/cuda/text.rs` completes it when a plan is prepared. The driver's compiler then knows every number,
// drops the branches, loads and values that the plan does not need, and gives registers to the rest.
#pragma once

typedef unsigned long long u64;
typedef unsigned int u32;

// Maps that plans may make.
static constexpr int MADE = 5;

// `VoxelParams` of src/cuda/params.rs, which explains the fields.
struct Params {
    u64 prediction, target, mask, weights, map, gradient, rows, coefficients, costs, ticket;
    u64 made[MADE];
    u64 voxels;
    u32 samples, first_sample, rows_of_sample, runs, rounds, unused;
};

// Threads of a block and of a warp, warps of a block.
static constexpr int THREADS = 256;
static constexpr int WARP = 32;
static constexpr int WARPS = THREADS / WARP;
static constexpr u32 WHOLE_WARP = 0xffffffffu;

// A number of the plan. Not volatile: it is a constant, which may be moved and shared.
#define PLAN(name) ([] { int v; asm("mov.b32 %0, SEGFUSE_" #name ";" : "=r"(v)); return v; }())
#define PLAN_WIDE(name) ([] { long long v; asm("mov.b64 %0, SEGFUSE_" #name ";" : "=l"(v)); return v; }())

// Whether the plan makes the M-th map that plans may make, and the first class that it is made for.
template <int M> __device__ __forceinline__ int is_made() {
    int v;
    asm("mov.b32 %0, SEGFUSE_MADE_%1;" : "=r"(v) : "n"(M));
    return v;
}
template <int M> __device__ __forceinline__ int first_made() {
    int v;
    asm("mov.b32 %0, SEGFUSE_MADE_FIRST_%1;" : "=r"(v) : "n"(M));
    return v;
}

// `each<n>([&](auto k) { … })` is the body for k from 0 to n − 1, written out: an array indexed by anything but constants would
// lie in memory, and a completed comment needs the number.
template <int K> struct Index {
    constexpr operator int() const { return K; }
};
template <int N, int K = 0, class Body> __device__ __forceinline__ void each(Body body) {
    if constexpr (K < N) {
        body(Index<K>());
        each<N, K + 1>(body);
    }
}

__device__ __forceinline__ int thread() { return threadIdx.x; }
__device__ __forceinline__ int lane() { return threadIdx.x % WARP; }
__device__ __forceinline__ int warp() { return threadIdx.x / WARP; }

// Aligned for four numbers at once.
extern __shared__ __align__(16) float shared[];
