// The sums of a pass: single precision over a run of at most 64 values per thread, a fixed tree over the block, and from there
// doubles.
//
// Which sums a plan has, the host knows when it completes a kernel: the comments below become additions to registers that it
// declares, or nothing. A block adds its runs to its own row of the workspace; `combine` adds the rows.
#pragma once
#include "voxel.cuh"

// sum += x, and sum += a·b, where `when` holds.
#define SUM(moment, slot, x, when) \
    asm volatile("// SEGFUSE_SUM " moment " %0 %1 %2" ::"n"(int(slot)), "f"(x), "r"(int(when)))
#define SUM_PRODUCT(moment, slot, a, b, when) \
    asm volatile("// SEGFUSE_SUM_PRODUCT " moment " %0 %1 %2 %3" ::"n"(int(slot)), "f"(a), "f"(b), "r"(int(when)))

// Values that go through the tree together.
static constexpr int BATCH = 8;

template <int SLOTS, int WIDTH, bool INTERLEAVED, bool TEAMED> struct Sums {
    using Voxel = ::Voxel<SLOTS, WIDTH, INTERLEAVED, TEAMED>;

    __device__ __forceinline__ static void clear() { asm volatile("// SEGFUSE_CLEAR"); }

    // `finish`, which comes next on the stream, counts its blocks from 0.
    __device__ __forceinline__ static void clear_ticket(const Params &params) {
        if ((blockIdx.x | blockIdx.y | blockIdx.z | threadIdx.x) == 0) *reinterpret_cast<u32 *>(params.ticket) = 0;
    }

    // Adds the voxel at hand.
    __device__ __forceinline__ static void add(Voxel &v) {
        each<WIDTH>([&](auto l) {
            SUM("KEPT", 0, 1.0f, v.kept(l));
            SUM("INVALID", 0, 1.0f, v.own[l] == INVALID);
            SUM("N", 0, v.weight[l], v.kept(l));
        });
        if (PLAN(OWN_PIXELS)) {
            float map[WIDTH];
            v.own_map(map);
            each<WIDTH>([&](auto l) {
                asm volatile("// SEGFUSE_OWN_VALUES %0 %1 %2 %3 %4 %5 %6 %7 %8 %9" ::"n"(int(l)), "f"(v.own_p[l]),
                             "f"(v.own_ln_p[l]), "f"(v.own_q[l]), "f"(map[l]), "f"(v.template own_made<0>(l)),
                             "f"(v.template own_made<1>(l)), "f"(v.template own_made<2>(l)), "f"(v.template own_made<3>(l)),
                             "f"(v.template own_made<4>(l)));
            });
        }
        v.values([&](auto k, auto l) {
            const float m = v.weight[l], p = v.p[k][l], g = v.g_of(k, l);
            const float mp = PLAN(WEIGHTS) ? m * p : p;
            if (PLAN(LABELS_TARGET)) {
                SUM("G", k, m, v.is_own(k, l));
                SUM("GG", k, m, v.is_own(k, l));
            } else {
                SUM_PRODUCT("G", k, m, g, v.kept(l));
                SUM_PRODUCT("GG", k, m * g, g, v.kept(l));
            }
            SUM("P", k, mp, v.kept(l));
            // Where P shows a NaN, there is no need to multiply it by g = 0.
            if (PLAN(LABELS_TARGET) && PLAN(SUM_P)) SUM("PG", k, mp, v.is_own(k, l));
            else SUM_PRODUCT("PG", k, mp, g, v.kept(l));
            SUM_PRODUCT("PP", k, mp, p, v.kept(l));
            if (PLAN(OWN_PIXELS)) {
                asm volatile("// SEGFUSE_OWN_SUM %0 %1 %2 %3" ::"n"(int(k)), "n"(int(l)), "f"(m), "r"(int(v.is_own(k, l))));
            } else if (PLAN(PIXELS)) {
                asm volatile("// SEGFUSE_PIXEL_SUM %0 %1 %2 %3 %4 %5 %6 %7 %8 %9 %10 %11 %12 %13" ::"n"(int(k)), "f"(m),
                             "r"(int(v.kept(l))), "f"(p), "f"(v.ln_p_of(k, l)), "f"(v.q_of(k, l)), "f"(v.ln_q_of(k, l)), "f"(g),
                             "f"(v.map_of(k, l)), "f"(v.made[0][k][l]), "f"(v.made[1][k][l]), "f"(v.made[2][k][l]),
                             "f"(v.made[3][k][l]), "f"(v.made[4][k][l]));
            }
        });
        if (PLAN(COST)) add_costs(v);
        if (PLAN(HARD)) add_hard_counts(v);
    }

    // Σ_c M[row, c]·p_c
    __device__ __forceinline__ static float cost_of(Voxel &v, int row) {
        float cost[1] = {0.0f};
        v.slots([&](auto k) {
            if (v.present(k)) cost[0] += entry(v.params.costs, row * PLAN(CLASSES) + v.class_of(k)) * v.p[k][0];
        });
        team_sum<TEAMED>(cost);
        return cost[0];
    }
    // D = Σ g_c·(M·p)_c, of the voxel's own class or, with a dense target, of any. One voxel at a time.
    __device__ __forceinline__ static void add_costs(Voxel &v) {
        if constexpr (WIDTH == 1) {
            if (PLAN(LABELS_TARGET)) {
                const float cost = cost_of(v, min(max(v.own[0], 0), PLAN(CLASSES) - 1));
                v.slots([&](auto k) { SUM_PRODUCT("COST", k, v.weight[0] * v.g_of(k, 0), cost, v.kept(0)); });
            } else {
                for (int row = 0; row < PLAN(CLASSES); ++row) {
                    const float cost = cost_of(v, row);
                    v.slots([&](auto k) {
                        SUM_PRODUCT("COST", k, v.weight[0] * v.g_of(k, 0), cost, v.kept(0) && v.class_of(k) == row);
                    });
                }
            }
        }
    }

    // True and false positives, false negatives of the hard prediction: the largest p, or p > ½.
    __device__ __forceinline__ static void add_hard_counts(Voxel &v) {
        float best[WIDTH];
        int winner[WIDTH];
        each<WIDTH>([&](auto l) {
            best[l] = -1.0f;
            winner[l] = PLAN(CLASSES);
        });
        v.values([&](auto k, auto l) { best[l] = v.present(k) && v.p[k][l] > best[l] ? v.p[k][l] : best[l]; });
        team_max<TEAMED>(best);
        v.values([&](auto k, auto l) {
            winner[l] = v.present(k) && v.p[k][l] == best[l] ? min(winner[l], v.class_of(k)) : winner[l];
        });
        team_min<TEAMED>(winner);
        v.values([&](auto k, auto l) {
            // With NaN alone there is no largest: the first class, as everywhere.
            const int first = winner[l] == PLAN(CLASSES) ? 0 : winner[l];
            const bool yes = PLAN(HARD_ARGMAX) ? first == v.class_of(k) : v.p[k][l] > 0.5f;
            const bool is_true = v.g_of(k, l) > 0.5f;
            SUM("TP", k, 1.0f, v.kept(l) && yes && is_true);
            SUM("FP", k, 1.0f, v.kept(l) && yes && !is_true);
            SUM("FN", k, 1.0f, v.kept(l) && !yes && is_true);
        });
    }

    // A row of partial sums, in one read of its voxels.
    __device__ __forceinline__ static void reduce(const Params &params, const Block &block) {
        Voxel voxel(params, block.sample);
        u64 first = block.begin(voxel);
        for (u32 run = 0; run < params.runs; ++run) {
            clear();
            for (u32 round = 0; round < params.rounds; ++round, first += block.step(voxel)) {
                voxel.load_voxel(first);
                if (!PLAN(CENSUS)) voxel.activate();
                add(voxel);
            }
            flush(params, block, run == 0);
        }
    }

    // The sums of the threads that hold the same classes, added to the block's row; the first run overwrites what was there.
    __device__ __forceinline__ static void flush(const Params &params, const Block &block, bool first) {
        // What voxels exchanged may lie where the sums will.
        if (PLAN(SHARES_MEMORY)) __syncthreads();
        const u64 row = params.rows + ((block.sample * params.rows_of_sample + block.row) * u32(PLAN(ROW))) * 8;
        for (int batch = 0; batch < PLAN(BATCHES);) {
            const int begin = batch;
            for (; batch < PLAN(BATCHES) && batch - begin < PLAN(BATCHES_AT_ONCE); ++batch) {
                float x[BATCH];
                asm volatile("// SEGFUSE_BATCH %0 %1 %2 %3 %4 %5 %6 %7 %8"
                             : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3]), "=f"(x[4]), "=f"(x[5]), "=f"(x[6]), "=f"(x[7])
                             : "r"(batch));
                float *scratch = shared + (batch - begin) * BATCH * WARPS * members_of_warp();
                if (!TEAMED) tree_alone(x, scratch);
                else tree_of_team(x, scratch);
            }
            __syncthreads();
            add_to_row(row, begin, batch - begin, first);
            __syncthreads();
        }
    }

    __device__ __forceinline__ static int members_of_warp() { return TEAMED ? min(PLAN(TEAM), WARP) : 1; }
    // A sum of value j of a batch over one member of a warp.
    __device__ __forceinline__ static int place(int j, int of_warp, int of_member) {
        return (j * WARPS + of_warp) * members_of_warp() + of_member;
    }

    // Each step halves the values as it halves the lanes that hold one: the lanes of a pair each give away what the other keeps.
    __device__ __forceinline__ static void tree_alone(float (&x)[BATCH], float *scratch) {
        each<3>([&](auto step) {
            constexpr int left = BATCH >> (step + 1);
            constexpr int mask = WARP >> (step + 1);
            const bool upper = lane() & mask;
            each<left>([&](auto i) {
                const float give = upper ? x[i] : x[i + left];
                x[i] = (upper ? x[i + left] : x[i]) + shuffled(give, mask);
            });
        });
        x[0] += shuffled(x[0], 2);
        x[0] += shuffled(x[0], 1);
        if (lane() % 4 == 0) scratch[place(lane() / 4, warp(), 0)] = x[0];
    }

    __device__ __forceinline__ static void tree_of_team(float (&x)[BATCH], float *scratch) {
        const int members = members_of_warp() - 1 << PLAN(MEMBER_SHIFT);
        each<5>([&](auto b) {
            if (!(members >> b & 1)) each<BATCH>([&](auto j) { x[j] += shuffled(x[j], 1 << b); });
        });
        if ((lane() & ~members) == 0)
            each<BATCH>([&](auto j) { scratch[place(j, warp(), (lane() & members) >> PLAN(MEMBER_SHIFT))] = x[j]; });
    }

    // Adds what the warps have left to the row: moments by class, hard counts by class, voxels.
    __device__ __forceinline__ static void add_to_row(u64 row, int first_batch, int batches, bool first) {
        const int shift = TEAMED ? PLAN(TEAM_SHIFT) : 0;
        for (int o = thread(); o < batches * BATCH << shift; o += THREADS) {
            const int value = o >> shift, of_member = o & ((1 << shift) - 1);
            const int i = first_batch * BATCH + value;
            float total = 0.0f;
            for (int w = of_member / WARP; w < WARPS; w += TEAMED ? max(PLAN(TEAM) / WARP, 1) : 1)
                total += shared[place(value, w, of_member % WARP)];
            int at;
            if (i < PLAN(SLOTS) * PLAN(SUMS)) {
                const int k = i / PLAN(SUMS), j = i % PLAN(SUMS);
                const int c = (k << shift) + of_member;
                at = j < PLAN(MOMENTS_HERE) ? c * PLAN(MOMENTS) + j
                                            : PLAN(CLASSES) * PLAN(MOMENTS) + c * 3 + (j - PLAN(MOMENTS_HERE));
                // A last slot may hold no class.
                if (c >= PLAN(CLASSES)) continue;
            } else {
                at = PLAN(ROW) - 2 + (i - PLAN(SLOTS) * PLAN(SUMS));
                // The voxels of a team are one member's to count.
                if (at >= PLAN(ROW) || of_member != 0) continue;
            }
            double *sum = reinterpret_cast<double *>(row) + at;
            *sum = first ? double(total) : *sum + double(total);
        }
    }
};
