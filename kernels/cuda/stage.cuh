// The classes of a warp's voxels in an interleaved layout, moved side by side and turned in shared memory.
//
// A warp holds 32/TEAM voxels, whose classes follow each other: a *tile*. Its lanes move STAGE_WIDTH elements at once, so that
// every sector is read once, and each takes its own classes from shared memory. Only the lanes of a warp meet here.
//
// Two numbers keep the banks apart. A thread that holds all classes of its voxel takes STAGE_OWN of them at once: as many of 4, 2
// or 1 as divide their number. And where the voxels so far fill whole rows of 32, so that those after would meet the same banks,
// STAGE_PAD numbers are left out; lanes that bring elements fill whole rows between two such places, and never meet. A team that
// does not divide the classes reads in two passes at most.
#pragma once
#include "load.cuh"
#include "team.cuh"

template <int N> struct alignas(N * sizeof(float)) Numbers {
    static constexpr int COUNT = N;
    float x[N];
};

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
        const int voxel = TEAMED ? lane() >> PLAN(TEAM_SHIFT) : lane();
        mine = tile + voxel * PLAN(CLASSES) + (voxel >> PLAN(STAGE_PERIOD_SHIFT)) * PLAN(STAGE_PAD) + member<TEAMED>();
    }
    __device__ __forceinline__ static int voxels_of_warp() { return TEAMED ? WARP >> PLAN(TEAM_SHIFT) : WARP; }
    // Moves to the tile that begins with a voxel of the sample.
    __device__ __forceinline__ void move(u64 origin, u64 voxel, u64 voxels) {
        const u64 of_warp = voxels_of_warp();
        const u64 left = voxel < voxels ? voxels - voxel : 0;
        first = origin + voxel * PLAN(CLASSES);
        count = int(left < of_warp ? left : of_warp) * PLAN(CLASSES);
    }
    // N elements of the tile in shared memory, i of them before.
    template <int N> __device__ __forceinline__ Numbers<N> &at(int i) {
        const int periods = PLAN(STAGE_PAD) == 0 ? 0 : int((u32(i) * u32(PLAN(STAGE_PERIOD_RECIPROCAL))) >> 20);
        return reinterpret_cast<Numbers<N> &>(tile[i + periods * PLAN(STAGE_PAD)]);
    }

    template <int SLOTS, int N, class Load> __device__ __forceinline__ void read(u64 buffer, Load load) {
        constexpr int STEPS = (SLOTS + N - 1) / N;
        Numbers<N> some[STEPS];
        // All loads are on their way before the first is waited for.
        each<STEPS>([&](auto s) {
            const int i = (s * WARP + lane()) * N;
            if (i < count) load(some[s].x, buffer, first + i);
            else each<N>([&](auto l) { some[s].x[l] = 0.0f; });
        });
        each<STEPS>([&](auto s) {
            const int i = (s * WARP + lane()) * N;
            if (i < PLAN(TILE)) at<N>(i) = some[s];
        });
    }
    template <int SLOTS, int N> __device__ __forceinline__ void write(u64 buffer) {
        constexpr int STEPS = (SLOTS + N - 1) / N;
        each<STEPS>([&](auto s) {
            const int i = (s * WARP + lane()) * N;
            if (i < count) {
                const Numbers<N> some = at<N>(i);
                store<N>(some.x, buffer, first + i);
            }
        });
    }
    // Fills the tile.
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
    // Calls `body(k, place)` for the slots: `place` is that of as many as are taken at once, of which k is the first.
    template <int SLOTS, class Body> __device__ __forceinline__ void own(Body body) const {
        if constexpr (TEAMED) {
            each<SLOTS>([&](auto k) {
                if (k < PLAN(SLOTS)) body(k, reinterpret_cast<Numbers<1> &>(mine[k * PLAN(TEAM)]));
            });
        } else {
            if (PLAN(STAGE_OWN) == 4) own_by<SLOTS, 4>(body);
            else if (PLAN(STAGE_OWN) == 2) own_by<SLOTS, 2>(body);
            else own_by<SLOTS, 1>(body);
        }
    }
    template <int SLOTS, int N, class Body> __device__ __forceinline__ void own_by(Body body) const {
        each<SLOTS / N>([&](auto group) {
            constexpr int k = group * N;
            if (k < PLAN(SLOTS)) body(Index<k>(), reinterpret_cast<Numbers<N> &>(mine[k]));
        });
    }
};
