// Teams of threads that share a voxel. With a team of 1 nothing is exchanged.
//
// Slot k of a member is the class k·TEAM + member. In a planar layout neighbouring lanes are the same member of neighbouring
// teams, so that they read voxels side by side; in an interleaved layout, and where a team is a warp or more, they are
// neighbouring members of one team, and read classes side by side. A team of more than a warp exchanges through shared memory.
#pragma once
#include "common.cuh"

template <bool TEAMED> __device__ __forceinline__ int member() {
    if (!TEAMED) return 0;
    return (PLAN(TEAM) > WARP ? thread() : lane() >> PLAN(MEMBER_SHIFT)) & (PLAN(TEAM) - 1);
}
// Number of the team in its block.
template <bool TEAMED> __device__ __forceinline__ int team() {
    if (!TEAMED) return thread();
    if (PLAN(TEAM) > WARP) return thread() >> PLAN(TEAM_SHIFT);
    const int in_warp = PLAN(MEMBER_SHIFT) == 0 ? lane() >> PLAN(TEAM_SHIFT) : lane() & ((1 << PLAN(MEMBER_SHIFT)) - 1);
    return warp() * (WARP >> PLAN(TEAM_SHIFT)) + in_warp;
}

template <class T> __device__ __forceinline__ T shuffled(T x, int mask) { return __shfl_xor_sync(WHOLE_WARP, x, mask); }

// Each x, folded over the members: the same bits for all of them, as both of a pair compute the same.
template <bool TEAMED, int N, class T, class Fold> __device__ __forceinline__ void team_fold(T (&x)[N], Fold fold) {
    if constexpr (TEAMED) {
        each<5>([&](auto k) {
            if (PLAN(TEAM) > (1 << k))
                each<N>([&](auto i) { x[i] = fold(x[i], shuffled(x[i], (1 << k) << PLAN(MEMBER_SHIFT))); });
        });
        if (PLAN(TEAM) > WARP) {
            static_assert(N <= 4, "EXCHANGE_BYTES of src/cuda/geometry.rs");
            T *exchange = reinterpret_cast<T *>(shared);
            if (lane() == 0) each<N>([&](auto i) { exchange[i * WARPS + warp()] = x[i]; });
            __syncthreads();
            const int warps = PLAN(TEAM) / WARP;
            const int first = warp() & ~(warps - 1);
            each<N>([&](auto i) { x[i] = exchange[i * WARPS + first]; });
            for (int w = 1; w < warps; ++w)
                each<N>([&](auto i) { x[i] = fold(x[i], exchange[i * WARPS + first + w]); });
            __syncthreads();
        }
    }
}
template <bool TEAMED, int N> __device__ __forceinline__ void team_sum(float (&x)[N]) {
    team_fold<TEAMED>(x, [](float a, float b) { return a + b; });
}
// NaN is dropped where there is a number.
template <bool TEAMED, int N> __device__ __forceinline__ void team_max(float (&x)[N]) {
    team_fold<TEAMED>(x, [](float a, float b) { return fmaxf(a, b); });
}
template <bool TEAMED, int N> __device__ __forceinline__ void team_min(int (&x)[N]) {
    team_fold<TEAMED>(x, [](int a, int b) { return min(a, b); });
}
