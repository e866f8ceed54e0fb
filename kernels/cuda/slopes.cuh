// The gradient of the voxel at hand, from ∂L/∂sum of its sample.
//
// For softmax the local gradient is carried as e = ∂L/∂ln p, so that ∂L/∂z = e − p·Σe and no 1/p is formed.
//
// MADE_HERE: the kernel itself has written the coefficients, which are no constants of it then.
#pragma once
#include "voxel.cuh"

template <int SLOTS, int WIDTH, bool INTERLEAVED, bool TEAMED, bool MADE_HERE = false> struct Slopes {
    using Voxel = ::Voxel<SLOTS, WIDTH, INTERLEAVED, TEAMED>;

    // ∂L/∂sum of the sample, f32 [C][SLOPES], times what the caller scales the loss by.
    u64 coefficients;
    // Of P, PG and PP of each slot.
    float by_p[SLOTS], by_pg[SLOTS], by_pp[SLOTS];
    // Whether nothing of a class's own voxels reaches the loss.
    bool left_out[SLOTS];

    __device__ __forceinline__ float coefficient(int of_class, int k) const {
        const int i = of_class * PLAN(SLOPES) + k;
        if constexpr (MADE_HERE) return reinterpret_cast<const float *>(coefficients)[u32(i)];
        return entry(coefficients, i);
    }

    // Takes what a block, whose voxels are of one sample, needs for all of them.
    __device__ __forceinline__ Slopes(const Voxel &v) {
        coefficients = v.params.coefficients + v.sample * u64(PLAN(CLASSES) * PLAN(SLOPES)) * 4;
        each<SLOTS>([&](auto k) {
            by_p[k] = by_pg[k] = by_pp[k] = 0.0f;
            left_out[k] = true;
            if (k < PLAN(SLOTS)) {
                const int c = min(v.class_of(k), PLAN(CLASSES) - 1);
                if (PLAN(SLOPE_P)) by_p[k] = coefficient(c, PLAN(BY_P));
                if (PLAN(SLOPE_PG)) by_pg[k] = coefficient(c, PLAN(BY_PG));
                if (PLAN(SLOPE_PP)) by_pp[k] = 2.0f * coefficient(c, PLAN(BY_PP));
                if (PLAN(PIXELS))
                    asm volatile("// SEGFUSE_TAKE_COEFFICIENTS %0 %1" ::"n"(int(k)), "l"(coefficients + c * PLAN(SLOPES) * 4));
                if (!PLAN(SOFTMAX)) {
                    for (int j = 0; j < PLAN(SLOPES); ++j) left_out[k] = left_out[k] && coefficient(c, j) == 0.0f;
                    if (PLAN(COST)) left_out[k] = false;
                }
            }
        });
    }

    // ∂L/∂p of a slot from P, PG and PP.
    __device__ __forceinline__ float affine(const Voxel &v, int k, int l) const {
        float x = by_p[k];
        if (PLAN(SLOPE_PG)) {
            if (PLAN(LABELS_TARGET)) x = v.is_own(k, l) ? x + by_pg[k] : x;
            else x = __fmaf_rn(v.g_of(k, l), by_pg[k], x);
        }
        if (PLAN(SLOPE_PP)) x = __fmaf_rn(v.p[k][l], by_pp[k], x);
        return x;
    }

    // ∂L/∂p_c of each slot: Σ_k ∂L/∂D_k·g_k·M[k, c]. One voxel at a time.
    __device__ __forceinline__ void cost_slopes(const Voxel &v, float (&x)[SLOTS]) const {
        const int classes = PLAN(CLASSES);
        auto cost = [&](int row, int k) { return entry(v.params.costs, row * classes + min(v.class_of(k), classes - 1)); };
        if (PLAN(LABELS_TARGET)) {
            const int row = min(max(v.own[0], 0), classes - 1);
            // With one class, label 0 is no class.
            const bool counts = classes == 1 ? v.own[0] == 1 : v.kept(0);
            v.slots([&](auto k) { x[k] = counts ? coefficient(row, PLAN(BY_COST)) * cost(row, k) : 0.0f; });
        } else {
            v.slots([&](auto k) { x[k] = 0.0f; });
            for (int row = 0; row < classes; ++row) {
                float g[1] = {0.0f};
                v.slots([&](auto k) { g[0] = v.class_of(k) == row ? v.g_of(k, 0) : g[0]; });
                team_sum<TEAMED>(g);
                const float slope = g[0] * coefficient(row, PLAN(BY_COST));
                v.slots([&](auto k) { x[k] = __fmaf_rn(slope, cost(row, k), x[k]); });
            }
        }
    }

    // Writes the gradient of the voxels.
    __device__ __forceinline__ void write(Voxel &v, float (&dz)[SLOTS][WIDTH]) const {
        // What a voxel that does not count gets is 0, whatever is there.
        v.values([&](auto k, auto l) {
            const float x = PLAN(WEIGHTS) ? dz[k][l] * v.weight[l] : dz[k][l];
            dz[k][l] = v.kept(l) ? x : 0.0f;
        });
        if constexpr (INTERLEAVED) {
            if (PLAN(STAGED)) {
                __syncwarp();
                v.stage.template own<SLOTS>([&](auto k, auto &place) {
                    auto some = place;
                    each<some.COUNT>([&](auto j) { some.x[j] = dz[k + j][0]; });
                    if (v.present(k)) place = some;
                });
                v.stage.template drain<SLOTS>(v.params.gradient);
                return;
            }
            if constexpr (SLOTS <= 4 && !TEAMED) {
                float all[SLOTS];
                each<SLOTS>([&](auto k) { all[k] = dz[k][0]; });
                if (v.inside) store<SLOTS>(all, v.params.gradient, v.element(0));
                return;
            }
        }
        if (v.inside)
            v.slots([&](auto k) {
                if (v.present(k)) store<WIDTH>(dz[k], v.params.gradient, v.element(k));
            });
    }

    // The gradient of the voxels of a block, in one read of them.
    __device__ __forceinline__ static void gradient(const Params &params, const Block &block) {
        Voxel voxel(params, block.sample);
        const Slopes slopes(voxel);
        u64 first = block.begin(voxel);
        for (u32 run = 0; run < params.runs; ++run) {
            for (u32 round = 0; round < params.rounds; ++round, first += block.step(voxel)) {
                voxel.load_voxel(first);
                voxel.activate();
                slopes.differentiate(voxel);
            }
        }
    }

    __device__ __forceinline__ void differentiate(Voxel &v) const {
        // What the cost and the pixel terms that look at every class give to e, ∂L/∂z or ∂L/∂p, by the activation; and with
        // b = ∂L/∂ln q, b·p/q, which is b for the largest class.
        float base[SLOTS][WIDTH], u[SLOTS][WIDTH];
        v.values([&](auto k, auto l) {
            base[k][l] = u[k][l] = 0.0f;
            if (PLAN(PIXELS) && !PLAN(OWN_CLASS)) {
                float slope, by_ln_q;
                asm("// SEGFUSE_PIXEL_SLOPES %2 %0 %1 %3 %4 %5 %6 %7 %8 %9 %10 %11 %12 %13"
                    : "=f"(slope), "=f"(by_ln_q)
                    : "n"(int(k)), "f"(v.p[k][l]), "f"(v.ln_p_of(k, l)), "f"(v.q_of(k, l)), "f"(v.ln_q_of(k, l)),
                      "f"(v.g_of(k, l)), "f"(v.map_of(k, l)), "f"(v.made[0][k][l]), "f"(v.made[1][k][l]), "f"(v.made[2][k][l]),
                      "f"(v.made[3][k][l]), "f"(v.made[4][k][l]));
                base[k][l] = slope;
                if (PLAN(LN_Q)) {
                    const float b = by_ln_q * v.p[k][l];
                    u[k][l] = v.is_top(k, l) ? by_ln_q * v.p[k][l] : b / v.q_of(k, l);
                }
            }
        });
        if constexpr (WIDTH == 1) {
            if (PLAN(COST)) {
                float x[SLOTS];
                cost_slopes(v, x);
                v.slots([&](auto k) {
                    const float p = v.p[k][0];
                    const float chain = PLAN(SOFTMAX) ? p : PLAN(SIGMOID) ? p * v.q[k][0] : 1.0f;
                    base[k][0] = __fmaf_rn(x[k], chain, base[k][0]);
                });
            }
        }
        if (PLAN(SOFTMAX)) {
            of_softmax(v, base, u);
            return;
        }
        float dz[SLOTS][WIDTH];
        v.values([&](auto k, auto l) {
            const float chain = PLAN(SIGMOID) ? v.p[k][l] * v.q[k][l] : 1.0f;
            const float x = __fmaf_rn(affine(v, k, l), chain, base[k][l]);
            // A class that is left out: its own values do not matter, not even a NaN.
            dz[k][l] = left_out[k] ? 0.0f : x;
        });
        write(v, dz);
    }

    __device__ __forceinline__ void of_softmax(Voxel &v, float (&base)[SLOTS][WIDTH], float (&u)[SLOTS][WIDTH]) const {
        // The slope of the most probable class is taken from all: that changes no gradient of a softmax, and leaves nothing to
        // cancel where that class is nearly certain.
        float shift[WIDTH], sum[WIDTH], e_top[WIDTH], u_sum[WIDTH], u_top[WIDTH], own_slope[WIDTH];
        float e[SLOTS][WIDTH];
        each<WIDTH>([&](auto l) { shift[l] = sum[l] = e_top[l] = u_sum[l] = u_top[l] = own_slope[l] = 0.0f; });
        if constexpr (TEAMED) {
            v.values([&](auto k, auto l) { shift[l] = v.is_top(k, l) ? affine(v, k, l) : shift[l]; });
            team_sum<TEAMED>(shift);
        } else {
            // From the last slot to the first: the lowest class of the largest is left.
            each<SLOTS>([&](auto back) {
                constexpr int k = SLOTS - 1 - back;
                if (k < PLAN(SLOTS))
                    each<WIDTH>([&](auto l) { shift[l] = v.z[k][l] == v.largest[l] ? affine(v, k, l) : shift[l]; });
            });
        }
        v.values([&](auto k, auto l) {
            e[k][l] = __fmaf_rn(affine(v, k, l) - shift[l], v.p[k][l], base[k][l]);
            if (!PLAN(BASE)) {
                // Of the largest class e is 0.
                sum[l] += v.present(k) ? e[k][l] : 0.0f;
                return;
            }
            const bool top = v.is_top(k, l), other = v.present(k) && !top;
            sum[l] += other ? e[k][l] : 0.0f;
            e_top[l] = top ? e[k][l] : e_top[l];
            if (PLAN(LN_Q)) {
                u_sum[l] += other ? u[k][l] : 0.0f;
                u_top[l] = top ? u[k][l] : u_top[l];
            }
        });
        team_sum<TEAMED>(sum);
        if (PLAN(BASE)) {
            team_sum<TEAMED>(e_top);
            // ∂ln q_c/∂z_c = −p_c and ∂ln q_c/∂z_k = p_c·p_k/q_c; where c is the largest class, p_k/q_c is its share of the rest.
            if (PLAN(LN_Q)) {
                team_sum<TEAMED>(u_sum);
                team_sum<TEAMED>(u_top);
            }
        }
        if (PLAN(PIXELS) && PLAN(OWN_CLASS)) {
            // Terms of the own class come by x = ∂L/∂ln p of it: x·(1 − p) for itself, −x·p for the others.
            float map[WIDTH];
            v.own_map(map);
            each<WIDTH>([&](auto l) {
                const u64 of_class = coefficients + u32(min(max(v.own[l], 0), PLAN(CLASSES) - 1) * PLAN(SLOPES)) * 4;
                asm volatile("// SEGFUSE_OWN_SLOPE %0 %1 %2 %3 %4 %5 %6 %7 %8 %9 %10"
                             : "=f"(own_slope[l])
                             : "f"(v.own_p[l]), "f"(v.own_ln_p[l]), "f"(v.own_q[l]), "f"(map[l]), "f"(v.template own_made<0>(l)),
                               "f"(v.template own_made<1>(l)), "f"(v.template own_made<2>(l)), "f"(v.template own_made<3>(l)),
                               "f"(v.template own_made<4>(l)), "l"(of_class));
            });
        }
        float dz[SLOTS][WIDTH];
        v.values([&](auto k, auto l) {
            const float p = v.p[k][l];
            float x;
            if (!PLAN(BASE)) {
                // With e = 0 for the largest class, e − p·Σe is as good for it.
                const bool own = PLAN(OWN_CLASS) && v.is_own(k, l);
                x = __fmaf_rn(-p, own ? sum[l] : sum[l] + own_slope[l], e[k][l]);
                dz[k][l] = own ? __fmaf_rn(own_slope[l], v.own_q[l], x) : x;
                return;
            }
            const bool top = v.is_top(k, l);
            // e·(1 − p) − p·(Σ of the others) for the largest class, with 1 − p as it is.
            x = __fmaf_rn(-p, top ? sum[l] : sum[l] + e_top[l], top ? e[k][l] * v.q_top[l] : e[k][l]);
            if (PLAN(OWN_CLASS)) x = __fmaf_rn(own_slope[l], v.is_own(k, l) ? v.own_q[l] : -p, x);
            if (PLAN(LN_Q)) {
                const float u_here = top ? 0.0f : u[k][l];
                const float of_itself = top ? u_top[l] : u_here * v.q_of(k, l);
                x += p * (u_sum[l] - u_here) + u_top[l] * v.rest_of(k, l) - of_itself;
            }
            dz[k][l] = x;
        });
        write(v, dz);
    }
};
