// One voxel, or WIDTH that follow each other, of one thread: loaded, told what counts, activated.
//
// SLOTS is how many classes a thread has room for; the plan says how many it holds. `[k][l]` is slot k of voxel l. What does
// not count is never added and never written, and so may be anything; a slot beyond the classes is −∞ as a logit.
#pragma once
#include "stage.cuh"

template <int SLOTS, int WIDTH, bool INTERLEAVED, bool TEAMED> struct Voxel {
    const Params &params;
    static constexpr int WIDE = WIDTH;
    // The sample, its first element in a buffer with the prediction's layout, and the voxel in it.
    u64 sample, origin, voxel;
    int member_of_team, team_of_block;
    bool inside;
    Stage<TEAMED> stage;
    // Their class, or IGNORED or INVALID; 0 for a kept voxel of a dense target.
    int own[WIDTH];
    float weight[WIDTH];
    float dense[SLOTS][WIDTH], phi[SLOTS][WIDTH];
    // The maps that the plan makes, where pixel terms look at every class.
    float made[MADE][SLOTS][WIDTH];
    float z[SLOTS][WIDTH], p[SLOTS][WIDTH], q[SLOTS][WIDTH];
    // Softmax: the largest logit, ln Σe^(z − largest), 1 − p of the first of the largest classes, and which it is.
    float largest[WIDTH], ln_sum[WIDTH], q_top[WIDTH];
    int top[WIDTH];
    // ln q of it; largest logit and Σ of the others.
    float ln_q_top[WIDTH], second[WIDTH], others_of_second[WIDTH];
    float own_p[WIDTH], own_ln_p[WIDTH], own_q[WIDTH];

    __device__ __forceinline__ Voxel(const Params &params, u64 sample)
        : params(params), sample(sample), origin(sample * params.voxels * PLAN(CLASSES)), member_of_team(member<TEAMED>()), team_of_block(team<TEAMED>()) {
        if (INTERLEAVED) stage.begin();
    }

    // Runs a body over slots, and over slots and voxels.
    template <class Body> __device__ __forceinline__ static void slots(Body body) {
        each<SLOTS>([&](auto k) {
            if (k < PLAN(SLOTS)) body(k);
        });
    }
    template <class Body> __device__ __forceinline__ static void values(Body body) {
        slots([&](auto k) { each<WIDTH>([&](auto l) { body(k, l); }); });
    }

    __device__ __forceinline__ int class_of(int k) const { return TEAMED ? k * PLAN(TEAM) + member_of_team : k; }
    // Whether a slot holds a class; the last slot of some members does not.
    __device__ __forceinline__ bool present(int k) const { return !TEAMED || PLAN(FULL_SLOTS) || class_of(k) < PLAN(CLASSES); }
    __device__ __forceinline__ bool kept(int l) const { return own[l] >= 0; }
    // With one class, label 1 is the class and 0 is not.
    __device__ __forceinline__ bool is_own(int k, int l) const { return own[l] == (PLAN(CLASSES) == 1 ? 1 : class_of(k)); }
    __device__ __forceinline__ float g_of(int k, int l) const {
        return PLAN(LABELS_TARGET) ? (is_own(k, l) ? 1.0f : 0.0f) : dense[k][l];
    }
    __device__ __forceinline__ float map_of(int k, int l) const {
        return PLAN(MAP_PER_CLASS) ? phi[k][l] : PLAN(MAP_SHARED) ? phi[0][l] : 0.0f;
    }
    __device__ __forceinline__ bool is_top(int k, int l) const { return top[l] == class_of(k); }

    // Number of a class of the voxel in a buffer that has the prediction's layout.
    __device__ __forceinline__ u64 element(int k) const {
        if (INTERLEAVED) return origin + voxel * PLAN(CLASSES) + class_of(k);
        return origin + voxel + class_of(k) * params.voxels;
    }

    // Reads the classes of the voxel from a buffer that has the prediction's layout; `nothing` where there is none.
    template <class Load>
    __device__ __forceinline__ void load_classes(float (&x)[SLOTS][WIDTH], u64 buffer, float nothing, Load load) {
        if constexpr (INTERLEAVED) {
            if (PLAN(STAGED)) {
                stage.template fill<SLOTS>(buffer, load);
                stage.template own<SLOTS>([&](auto k, auto &place) {
                    if (!present(k)) {
                        x[k][0] = nothing;
                        return;
                    }
                    const auto some = place;
                    each<some.COUNT>([&](auto j) { x[k + j][0] = some.x[j]; });
                });
                return;
            }
            if constexpr (SLOTS <= 4 && !TEAMED) {
                // The classes of a voxel are one load.
                float all[SLOTS];
                each<SLOTS>([&](auto k) { all[k] = nothing; });
                if (inside) load(all, buffer, element(0));
                each<SLOTS>([&](auto k) { x[k][0] = all[k]; });
                return;
            }
        }
        if (inside) {
            slots([&](auto k) {
                if (present(k)) load(x[k], buffer, element(k));
                else each<WIDTH>([&](auto l) { x[k][l] = nothing; });
            });
        } else {
            values([&](auto k, auto l) { x[k][l] = nothing; });
        }
    }

    // Moves to the round of the block that begins with this voxel of the sample, and reads what is known of the thread's own but
    // the prediction. A voxel beyond the end does not count.
    __device__ __forceinline__ void load_voxel(u64 first) {
        voxel = first + team_of_block * WIDTH;
        inside = voxel < params.voxels;
        if (INTERLEAVED && PLAN(STAGED)) stage.move(origin, first + warp() * stage.voxels_of_warp(), params.voxels);
        const u64 place = sample * params.voxels + voxel;
        each<WIDTH>([&](auto l) {
            own[l] = IGNORED;
            weight[l] = 1.0f;
        });
        if (inside) {
            if (PLAN(LABELS_TARGET)) load_labels(own, params.target, place);
            else each<WIDTH>([&](auto l) { own[l] = 0; });
            if (PLAN(KEEP)) {
                int keep[WIDTH];
                load_keep(keep, params.mask, place);
                each<WIDTH>([&](auto l) { own[l] = keep[l] == 0 ? IGNORED : own[l]; });
            }
            if (PLAN(WEIGHTS)) load_weights(weight, params.weights, place);
        }
        const auto of_dense = [](auto &x, u64 at, u64 i) { load_dense(x, at, i); };
        const auto of_map = [](auto &x, u64 at, u64 i) { load_map(x, at, i); };
        if (!PLAN(LABELS_TARGET)) load_classes(dense, params.target, 0.0f, of_dense);
        if (PLAN(MAP_PER_CLASS)) load_classes(phi, params.map, 0.0f, of_map);
        if (PLAN(MAP_SHARED)) {
            each<WIDTH>([&](auto l) { phi[0][l] = 0.0f; });
            if (inside) load_map(phi[0], params.map, place);
        }
        if (PLAN(PIXELS) && !PLAN(OWN_CLASS)) {
            each<MADE>([&](auto m) { load_made(m); });
        }
    }

    template <int M> __device__ __forceinline__ void load_made(Index<M>) {
        values([&](auto k, auto l) { made[M][k][l] = 0.0f; });
        if (is_made<M>() && inside)
            slots([&](auto k) {
                if (present(k) && class_of(k) >= first_made<M>()) load_map(made[M][k], params.made[M], made_element<M>(class_of(k)));
            });
    }
    // Number of the voxel in a made map, which is planar and begins with the plane of the first class that it is made for.
    template <int M> __device__ __forceinline__ u64 made_element(int of_class) const {
        const int first = first_made<M>();
        return (sample * (PLAN(CLASSES) - first) + (of_class - first)) * params.voxels + voxel;
    }

    // Loads the prediction and makes p, and what the pass reads beside it.
    __device__ __forceinline__ void activate() {
        const auto of_prediction = [](auto &x, u64 at, u64 i) { load_prediction(x, at, i); };
        load_classes(z, params.prediction, __int_as_float(0xff800000), of_prediction);
        if (PLAN(SOFTMAX)) {
            softmax();
        } else if (PLAN(SIGMOID)) {
            values([&](auto k, auto l) {
                const float e = exp_of_negative(-fabsf(z[k][l]));
                const float large = reciprocal(1.0f + e);
                const float small = e * large;
                const bool positive = z[k][l] >= 0.0f;
                p[k][l] = positive ? large : small;
                q[k][l] = positive ? small : large;
            });
        } else {
            values([&](auto k, auto l) { p[k][l] = z[k][l]; });
        }
    }

    // The largest classes are counted, the others summed: 1 + others would lose a small sum, and with it ln p and 1 − p of a
    // class that is nearly certain.
    __device__ __forceinline__ void softmax() {
        // A NaN is no maximum; it reaches every p by way of the sum.
        each<WIDTH>([&](auto l) { largest[l] = LEAST; });
        values([&](auto k, auto l) { largest[l] = fmaxf(largest[l], z[k][l]); });
        team_max<TEAMED>(largest);
        float others[WIDTH], ties[WIDTH], own_shifted[WIDTH], own_e[WIDTH];
        each<WIDTH>([&](auto l) {
            others[l] = ties[l] = own_shifted[l] = own_e[l] = 0.0f;
            top[l] = PLAN(CLASSES);
        });
        values([&](auto k, auto l) {
            const float shifted = z[k][l] - largest[l];
            const float e = exp_of_negative(shifted);
            add_apart(others[l], ties[l], shifted, e);
            p[k][l] = e;
            if (PLAN(OWN_CLASS)) {
                own_shifted[l] = is_own(k, l) ? shifted : own_shifted[l];
                own_e[l] = is_own(k, l) ? e : own_e[l];
            }
        });
        // The first of the largest; with NaN or nothing but −∞ there is none, and any class will do.
        each<SLOTS>([&](auto back) {
            constexpr int k = SLOTS - 1 - back;
            if (k < PLAN(SLOTS))
                each<WIDTH>([&](auto l) { top[l] = z[k][l] == largest[l] ? class_of(k) : top[l]; });
        });
        team_min<TEAMED>(top);
        team_sum<TEAMED>(others);
        team_sum<TEAMED>(ties);
        if (PLAN(OWN_CLASS)) {
            team_sum<TEAMED>(own_shifted);
            team_sum<TEAMED>(own_e);
        }
        each<WIDTH>([&](auto l) {
            top[l] = top[l] == PLAN(CLASSES) ? 0 : top[l];
            const float sum = others[l] + ties[l];
            const float share = reciprocal(sum);
            const float rest = others[l] + (ties[l] - 1.0f);
            ln_sum[l] = rest <= 1.0f ? ln_1p(rest) : log2_of_normal(sum) * LN_2;
            q_top[l] = rest * share;
            own_p[l] = own_e[l] * share;
            own_ln_p[l] = finite_ln(own_shifted[l] - ln_sum[l]);
            // e is 1 for the largest, and for what rounds to it: then q_top is as good.
            own_q[l] = own_e[l] == 1.0f ? q_top[l] : 1.0f - own_p[l];
            slots([&](auto k) { p[k][l] *= share; });
        });
        if (PLAN(LN_Q)) without_largest();
    }

    // others += e, or ties += 1 where shifted is 0.
    __device__ __forceinline__ static void add_apart(float &others, float &ties, float shifted, float e) {
        asm("{\n\t.reg .pred largest;\n\tsetp.eq.f32 largest, %2, 0f00000000;\n\t"
            "@!largest add.rn.f32 %0, %0, %3;\n\t@largest add.rn.f32 %1, %1, 0f3F800000;\n\t}"
            : "+f"(others), "+f"(ties) : "f"(shifted), "f"(e));
    }

    // For the largest class 1 − p cancels: ln q is the log-sum-exp of the others less that of all.
    __device__ __forceinline__ void without_largest() {
        each<WIDTH>([&](auto l) { second[l] = LEAST; });
        values([&](auto k, auto l) { second[l] = is_top(k, l) ? second[l] : fmaxf(second[l], z[k][l]); });
        // Where all others are −∞, any finite shift gives them the share 0.
        team_max<TEAMED>(second);
        each<WIDTH>([&](auto l) { others_of_second[l] = 0.0f; });
        values([&](auto k, auto l) {
            const float e = exp_of_negative(z[k][l] - second[l]);
            others_of_second[l] += is_top(k, l) ? 0.0f : e;
        });
        team_sum<TEAMED>(others_of_second);
        each<WIDTH>([&](auto l) {
            const float ratio = (second[l] - largest[l]) + ln(others_of_second[l], others_of_second[l] - 1.0f);
            const float tail = ln_1p(exp_of_negative(-fabsf(ratio)));
            ln_q_top[l] = finite_ln((ratio > 0.0f ? 0.0f : ratio) - tail);
            // An exact q as well.
            q_top[l] = exp_of_negative(ln_q_top[l]);
        });
    }

    // p of a class among all classes but the largest; 0 for that one.
    __device__ __forceinline__ float rest_of(int k, int l) const {
        const float share = exp_of_negative(z[k][l] - second[l]) / others_of_second[l];
        return is_top(k, l) || others_of_second[l] == 0.0f ? 0.0f : share;
    }

    // 1 − p, ln p and ln q of a slot.
    __device__ __forceinline__ float q_of(int k, int l) const {
        if (PLAN(SOFTMAX)) return is_top(k, l) ? q_top[l] : 1.0f - p[k][l];
        return PLAN(SIGMOID) ? q[k][l] : 1.0f - p[k][l];
    }
    __device__ __forceinline__ float ln_p_of(int k, int l) const {
        if (PLAN(SOFTMAX)) return finite_ln((z[k][l] - largest[l]) - ln_sum[l]);
        return ln_of(p[k][l], p[k][l] - 1.0f, z[k][l]);
    }
    __device__ __forceinline__ float ln_q_of(int k, int l) const {
        // Softmax: no class but the largest has p above ½.
        const float x = ln_of(1.0f - p[k][l], -p[k][l], -z[k][l]);
        return PLAN(SOFTMAX) ? (PLAN(LN_Q) ? (is_top(k, l) ? ln_q_top[l] : x) : 0.0f) : x;
    }
    // ln of a probability, given x and x − 1, or the logit that it comes from.
    __device__ __forceinline__ static float ln_of(float x, float past_1, float logit) {
        const float y = PLAN(SIGMOID) ? exp_of_negative(-fabsf(logit)) : past_1;
        const float tail = ln_1p(y);
        const float of_sigmoid = finite_ln((logit < 0.0f || is_nan(logit) ? logit : 0.0f) - tail);
        const float floored = x < PROBABILITY_FLOOR ? PROBABILITY_FLOOR : x;
        const float given = fabsf(past_1) <= 0.5f ? tail : log2_approx(floored) * LN_2;
        return PLAN(SIGMOID) ? of_sigmoid : given;
    }

    // φ of the voxel's own class.
    __device__ __forceinline__ void own_map(float (&x)[WIDTH]) {
        each<WIDTH>([&](auto l) { x[l] = PLAN(MAP_SHARED) ? phi[0][l] : 0.0f; });
        if (PLAN(MAP_PER_CLASS)) {
            values([&](auto k, auto l) { x[l] = is_own(k, l) ? phi[k][l] : x[l]; });
            team_sum<TEAMED>(x);
        }
    }
    // A made map of the voxel's own class; 0 where it is not made for that.
    template <int M> __device__ __forceinline__ float own_made(int l) const {
        float x[1] = {0.0f};
        if (is_made<M>()) {
            const int first = first_made<M>(), of_class = PLAN(CLASSES) == 1 ? 0 : own[l];
            if (kept(l) && of_class >= first) load_map(x, params.made[M], made_element<M>(of_class) + l);
        }
        return x[0];
    }
};

// The row of partial sums that a block makes, and the voxels that it visits: `runs` runs of `rounds` rounds of one load.
struct Block {
    u64 row, sample;
    bool exists;

    __device__ __forceinline__ Block(u64 sample, u64 row) : row(row), sample(sample), exists(true) {}
    // Samples lie in y and, where they are many, in z.
    __device__ __forceinline__ explicit Block(const Params &params) : row(blockIdx.x) {
        const u64 of_launch = blockIdx.z * u64(gridDim.y) + blockIdx.y;
        exists = of_launch < params.samples;
        sample = params.first_sample + of_launch;
    }

    // The first voxel of the block's first round, and how far it is to the next: its rounds follow each other.
    template <class Voxel> __device__ __forceinline__ u64 begin(const Voxel &voxel) const {
        return row * voxel.params.runs * voxel.params.rounds * step(voxel);
    }
    template <class Voxel> __device__ __forceinline__ static u32 step(const Voxel &voxel) {
        return WARPS * voxel.stage.voxels_of_warp() * Voxel::WIDE;
    }
};
