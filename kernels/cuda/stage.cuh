// The classes of a warp's voxels in an interleaved layout, moved side by side and turned in shared memory.
//
// A warp holds 32/TEAM voxels, whose classes follow each other: a *tile*. Its lanes move STAGE_WIDTH elements at once, so that
// every sector is read once, and each takes its own classes from shared memory. The voxels lie STAGE_STRIDE numbers apart
// there, so that lanes that read together read different banks. Only the lanes of a warp meet here.
#pragma once
#include "load.cuh"
#include "team.cuh"

template <bool TEAMED> struct Stage {
    // The warp's part of shared memory.
    float *tile;
    // Where this thread's classes lie in it.
    float *mine;
    // First element of the tile in the buffers, and how many of its elements there are before the sample ends.
    u64 first;
    int count;

    __device__ __forceinline__ void begin() {
        tile = shared + warp() * PLAN(STAGE_NUMBERS);
        mine = tile + (TEAMED ? lane() >> PLAN(TEAM_SHIFT) : lane()) * PLAN(STAGE_STRIDE) + member<TEAMED>();
    }
    __device__ __forceinline__ static int voxels_of_warp() { return TEAMED ? WARP >> PLAN(TEAM_SHIFT) : WARP; }
    // From `mine` to a slot.
    __device__ __forceinline__ static int step(int k) { return TEAMED ? k * PLAN(TEAM) : k; }
    // Moves to the tile that begins with a voxel of the sample.
    __device__ __forceinline__ void move(u64 origin, u64 voxel, u64 voxels) {
        const u64 of_warp = voxels_of_warp();
        const u64 left = voxel < voxels ? voxels - voxel : 0;
        first = origin + voxel * PLAN(CLASSES);
        count = int(left < of_warp ? left : of_warp) * PLAN(CLASSES);
    }
    // Where an element of the tile lies in shared memory.
    __device__ __forceinline__ float &at(int i) {
        const int voxel = int((u32(i) * u32(PLAN(CLASSES_RECIPROCAL))) >> 20);
        return tile[i + voxel * (PLAN(STAGE_STRIDE) - PLAN(CLASSES))];
    }

    template <int SLOTS, int N, class Load> __device__ __forceinline__ void read(u64 buffer, Load load) {
        constexpr int STEPS = (SLOTS + N - 1) / N;
        float x[STEPS][N];
        // All loads are on their way before the first is waited for.
        each<STEPS>([&](auto s) {
            const int i = (s * WARP + lane()) * N;
            if (i < count) load(x[s], buffer, first + i);
            else each<N>([&](auto l) { x[s][l] = 0.0f; });
        });
        each<STEPS>([&](auto s) {
            const int i = (s * WARP + lane()) * N;
            if (i < PLAN(TILE)) each<N>([&](auto l) { at(i + l) = x[s][l]; });
        });
    }
    template <int SLOTS, int N> __device__ __forceinline__ void write(u64 buffer) {
        constexpr int STEPS = (SLOTS + N - 1) / N;
        each<STEPS>([&](auto s) {
            const int i = (s * WARP + lane()) * N;
            if (i < count) {
                float x[N];
                each<N>([&](auto l) { x[l] = at(i + l); });
                store<N>(x, buffer, first + i);
            }
        });
    }

    // Fills the tile; each thread finds its classes from `mine` on.
    template <int SLOTS, class Load> __device__ __forceinline__ void fill(u64 buffer, Load load) {
        __syncwarp();
        if (PLAN(STAGE_WIDTH) == 4) read<SLOTS, 4>(buffer, load);
        else if (PLAN(STAGE_WIDTH) == 2) read<SLOTS, 2>(buffer, load);
        else read<SLOTS, 1>(buffer, load);
        __syncwarp();
    }
    // Writes the tile, which each thread has put its classes into.
    template <int SLOTS> __device__ __forceinline__ void drain(u64 buffer) {
        __syncwarp();
        if (PLAN(STAGE_WIDTH) == 4) write<SLOTS, 4>(buffer);
        else if (PLAN(STAGE_WIDTH) == 2) write<SLOTS, 2>(buffer);
        else write<SLOTS, 1>(buffer);
    }
};
